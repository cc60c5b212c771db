(data (i32.const 2048) "flag")
(data (i32.const 2056) "show")
;; body
(call $item_set_other (local.get $set) (i32.const 2048) (i32.const 4) (i32.const 2056) (i32.const 4) (i32.const 512))
(if (i32.load8_u (i32.const 512)) (then (return (call $nothing))))
(call $drop_one (i32.const 0))
