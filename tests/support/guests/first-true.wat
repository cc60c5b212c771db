(data (i32.const 2048) "true")
;; body
(memory.fill (i32.const 4096) (i32.const 0) (i32.const 40))
(i32.store (i32.const 4096) (i32.const 1))
(i32.store8 (i32.const 4104) (i32.const 1))
(i32.store (i32.const 4108) (i32.const 2048))
(i32.store (i32.const 4112) (i32.const 4))
(call $list (i32.const 4096) (i32.const 1))
