;; body
;; Leaks the first result, the context and the request. Together with `leak-request.wat` and `leak-context.wat`.
(call $leak_context (local.get $context))
(call $leak_request (local.get $request))
(call $result_set_get (local.get $set) (i32.const 0) (i32.const 512))
(if (i32.load8_u (i32.const 512)) (then (call $leak (i32.load (i32.const 524)) (i32.load (i32.const 528)))))
(call $nothing)
