(drop (call $wasi3_resolve))
(call $allow (i32.const 1024) (i32.const 3))
