(data (i32.const 2048) "flag")
(data (i32.const 2056) "show")
;; body
(call $item_set_other (local.get $set) (i32.const 2048) (i32.const 4) (i32.const 2056) (i32.const 4) (i32.const 512))
(call $item_set_drop (local.get $set))
(memory.fill (i32.const 4096) (i32.const 0) (i32.const 28))
(call $list (i32.const 4096) (i32.eqz (i32.load8_u (i32.const 512))))
