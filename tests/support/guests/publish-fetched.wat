(data (i32.const 2560) "GETtokenno response")
;; body
;; Publishes the response of the URL in the configuration, `{"url":"…"}`, under `token`.
(call $http_send
  (i32.const 2560) (i32.const 3)
  (i32.add (global.get $config) (i32.const 8)) (i32.sub (global.get $config_length) (i32.const 10))
  (i32.const 0) (i32.const 0)
  (i32.const 0) (i32.const 0) (i32.const 0)
  (i32.const 0) (i32.const 0)
  (i32.const 512))
(if (i32.load8_u (i32.const 512))
  (then (return (call $fail (i32.const 1) (i32.const 2568) (i32.const 11)))))
(call $publish (i32.const 2563) (i32.const 5) (i32.load (i32.const 528)) (i32.load (i32.const 532)))
