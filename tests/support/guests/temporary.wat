(data (i32.const 2048) "later, perhaps")
;; body
(call $fail (i32.const 1) (i32.const 2048) (i32.const 14))
