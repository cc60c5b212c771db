(call $item_set_drop (local.get $set))
(i32.store (i32.const 4096) (i32.const 0))
(i32.store (i32.const 4100) (i32.const 99))
(call $list (i32.const 4096) (i32.const 1))
