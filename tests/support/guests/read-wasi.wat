(call $wasi_now (i32.const 2048))
(drop (call $wasi_random))
(call $allow (i32.const 1024) (i32.const 3))
