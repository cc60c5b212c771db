(data (i32.const 2048) "outside of office hours")
;; body
(drop (call $deny (i32.const 1) (i32.const 0)))
(i32.store8 (i32.const 268) (i32.const 1))
(i32.store (i32.const 272) (i32.const 2048))
(i32.store (i32.const 276) (i32.const 23))
(i32.const 256)
