(data (i32.const 2048) "\ff\fe\fd")
;; body
(call $allow (i32.const 2048) (i32.const 3))
