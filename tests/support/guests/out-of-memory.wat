(call $allow (i32.const 0x7fffff00) (i32.const 3))
