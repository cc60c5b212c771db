;; body
;; The query is the name of the environment.
(call $request_query (local.get $request) (i32.const 512))
(i32.store (i32.const 256) (i32.const 0))
(memory.copy (i32.const 260) (i32.const 512) (i32.const 12))
(i32.const 256)
