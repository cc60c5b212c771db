(data (i32.const 2560) "POSTeverythingno response")
;; body
;; Posts the key of the first item to the URL in the configuration, `{"url":"…"}`.
(local $key i32) (local $length i32)
(local.set $key (i32.const 2564))
(local.set $length (i32.const 10))
(if (local.get $count)
  (then
    (local.set $key (i32.load offset=8 (local.get $items)))
    (local.set $length (i32.load offset=12 (local.get $items)))))
(call $http_send
  (i32.const 2560) (i32.const 4)
  (i32.add (global.get $config) (i32.const 8)) (i32.sub (global.get $config_length) (i32.const 10))
  (i32.const 0) (i32.const 0)
  (i32.const 1) (local.get $key) (local.get $length)
  (i32.const 0) (i32.const 0)
  (i32.const 512))
(if (i32.load8_u (i32.const 512))
  (then (return (call $fail (i32.const 1) (i32.const 2574) (i32.const 11)))))
(if (i32.ge_u (i32.load16_u (i32.const 516)) (i32.const 500))
  (then (return (call $fail (i32.const 1) (i32.const 2574) (i32.const 11)))))
(i32.store (i32.const 256) (i32.const 0))
(i32.const 256)
