(data (i32.const 2048) "{\"redacted\":tru")
;; body
(i32.store (i32.const 4096) (i32.const 1))
(i32.store (i32.const 4100) (i32.const 0))
(i32.store (i32.const 4104) (i32.const 4112))
(i32.store (i32.const 4108) (i32.const 1))
(i32.store (i32.const 4112) (i32.const 2048))
(i32.store (i32.const 4116) (i32.const 15))
(call $list (i32.const 4096) (i32.const 1))
