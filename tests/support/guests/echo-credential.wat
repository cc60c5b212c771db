(call $request_credential (local.get $request) (i32.const 512))
(if (i32.eqz (i32.load8_u (i32.const 512))) (then (return (call $abstain))))
(call $allow (i32.load (i32.const 520)) (i32.load (i32.const 524)))
