(data (i32.const 2048) "{\"key\":\"a\",\"version\":1}")
;; body
(i32.store (i32.const 4096) (i32.const 1))
(i32.store (i32.const 4100) (i32.const 0))
(i32.store (i32.const 4104) (i32.const 2048))
(i32.store (i32.const 4108) (i32.const 23))
(call $list (i32.const 4096) (i32.const 1))
