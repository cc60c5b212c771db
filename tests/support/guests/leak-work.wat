;; body
;; Leaks the configuration and what a process has, and publishes nothing. Together with `leak-request.wat`.
(call $leak (global.get $config) (global.get $config_length))
(call $leak_process)
(i32.store (i32.const 256) (i32.const 0))
(i32.store (i32.const 260) (i32.const 0))
(i32.const 256)
