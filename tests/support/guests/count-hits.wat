(data (i32.const 2048) "hits")
;; body
(call $kv_increment
  (i32.const 2048) (i32.const 4) (i64.const 1) (i32.const 0) (i64.const 0) (i32.const 512))
(if (i32.load8_u (i32.const 512)) (then (return (call $deny (i32.const 3) (i32.const 0)))))
(call $deny (i32.const 2) (i32.wrap_i64 (i64.load (i32.const 520))))
