;; body
(local $days i32)
(local $digit i32)
(call $wasi3_now (i32.const 2048))
(drop (call $wasi3_random))
(drop (call $wasi3_mark))
(local.set $days (i32.wrap_i64 (i64.div_u (i64.load (i32.const 2048)) (i64.const 86400))))
(local.set $digit (i32.const 5))
(loop $next
  (local.set $digit (i32.sub (local.get $digit) (i32.const 1)))
  (i32.store8
    (i32.add (i32.const 2064) (local.get $digit))
    (i32.add (i32.const 48) (i32.rem_u (local.get $days) (i32.const 10))))
  (local.set $days (i32.div_u (local.get $days) (i32.const 10)))
  (br_if $next (local.get $digit)))
(call $allow (i32.const 2064) (i32.const 5))
