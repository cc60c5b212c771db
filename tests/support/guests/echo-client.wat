(call $request_client_address (local.get $request) (i32.const 512))
(call $allow_option (i32.const 512))
