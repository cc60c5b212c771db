(call $request_identity (local.get $request) (i32.const 512))
(if (i32.eqz (i32.load8_u (i32.const 512))) (then (return (call $nothing))))
(call $drop_one (i32.const 0))
