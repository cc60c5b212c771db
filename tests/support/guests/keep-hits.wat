(data (i32.const 2048) "hits")
;; body
;; Hides the first item unless stored values can be used.
(call $kv_increment
  (i32.const 2048) (i32.const 4) (i64.const 1) (i32.const 0) (i64.const 0) (i32.const 512))
(if (i32.load8_u (i32.const 512)) (then (return (call $drop_one (i32.const 0)))))
(call $nothing)
