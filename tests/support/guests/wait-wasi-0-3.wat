(call $wasi3_wait (i64.const 1000000))
(call $allow (i32.const 1024) (i32.const 3))
