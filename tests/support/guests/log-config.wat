;; body
;; Logs its configuration, then fails with it as the text.
(call $log (i32.const 3) (global.get $config) (global.get $config_length))
(call $fail (i32.const 2) (global.get $config) (global.get $config_length))
