(data (i32.const 2048) "token")
;; body
(call $shared_get (i32.const 2048) (i32.const 5) (i32.const 512))
(call $allow_option (i32.const 512))
