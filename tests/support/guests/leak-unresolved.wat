;; body
;; Leaks the request, and chooses no environment. Together with `leak-request.wat`.
(call $leak_request (local.get $request))
(i32.store (i32.const 256) (i32.const 0))
(i32.store (i32.const 260) (i32.const 0))
(i32.const 256)
