(data (i32.const 2048) "what is this?")
;; body
(call $fail (i32.const 0) (i32.const 2048) (i32.const 13))
