(call $list (i32.const 4096) (i32.const 0))
