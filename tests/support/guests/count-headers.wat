(call $request_headers (local.get $request) (i32.const 512))
(call $deny (i32.const 2) (i32.load (i32.const 516)))
