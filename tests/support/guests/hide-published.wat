(data (i32.const 2304) "token")
;; body
;; Hides the first item once something is published a second time.
(call $shared_get (i32.const 2304) (i32.const 5) (i32.const 512))
(if (i32.eqz (i32.load8_u (i32.const 512))) (then (return (call $nothing))))
(if (i32.lt_u (i32.load8_u (i32.load (i32.const 516))) (i32.const 50)) (then (return (call $nothing))))
(call $drop_one (i32.const 0))
