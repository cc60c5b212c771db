(call $request_identity (local.get $request) (i32.const 512))
(call $allow_option (i32.const 512))
