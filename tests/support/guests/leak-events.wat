;; body
;; Leaks the content of the first event and the request. Together with `leak-request.wat`.
(call $leak_request (local.get $request))
(call $batch_get (local.get $batch) (i32.const 0) (i32.const 512))
(call $leak_option (i32.const 552))
(call $nothing)
