(call $item_set_drop (local.get $set))
(memory.fill (i32.const 4096) (i32.const 0) (i32.const 28))
(call $list (i32.const 4096) (i32.const 1))
