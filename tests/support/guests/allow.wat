(data (i32.const 2048) "caller")
;; body
(call $allow (i32.const 2048) (i32.const 6))
