;; body
;; Leaks what is said about a change, and what a process has. Together with `leak-request.wat`.
(call $leak (local.get $environment) (local.get $environment_length))
(if (local.get $count)
  (then (call $leak (i32.load offset=8 (local.get $items)) (i32.load offset=12 (local.get $items)))))
(call $leak_process)
(i32.store (i32.const 256) (i32.const 0))
(i32.const 256)
