(data (i32.const 2560) "refreshestoken")
;; body
;; Publishes the number of calls so far, a digit, under `token`.
(call $kv_increment
  (i32.const 2560) (i32.const 9) (i64.const 1) (i32.const 0) (i64.const 0) (i32.const 512))
(if (i32.load8_u (i32.const 512)) (then unreachable))
(i32.store8 (i32.const 2600) (i32.add (i32.const 48) (i32.wrap_i64 (i64.load (i32.const 520)))))
(call $publish (i32.const 2569) (i32.const 5) (i32.const 2600) (i32.const 1))
