(call $request_query (local.get $request) (i32.const 512))
(call $allow_option (i32.const 512))
