(memory.fill (i32.const 4096) (i32.const 0) (i32.const 32))
(call $list (i32.const 4096) (i32.const 2))
