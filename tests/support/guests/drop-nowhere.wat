(call $drop_one (i32.const 99))
