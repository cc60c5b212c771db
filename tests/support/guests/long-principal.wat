(memory.fill (i32.const 2048) (i32.const 97) (i32.const 32768))
(call $allow (i32.const 2048) (i32.const 32768))
