(data (i32.const 2048) "who")
;; body
(call $config_get (i32.const 2048) (i32.const 3) (i32.const 512))
(if (i32.eqz (i32.load8_u (i32.const 512))) (then (return (call $abstain))))
(call $allow (i32.load (i32.const 516)) (i32.load (i32.const 520)))
