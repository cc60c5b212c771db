(local $n i32)
(i32.store8 (i32.const 2048) (i32.const 97))
(loop $again
  (i32.store8 (i32.const 2049) (i32.add (i32.const 65) (local.get $n)))
  (call $counter_add (i32.const 2048) (i32.const 2) (i64.const 1) (i32.const 0) (i32.const 0) (i32.const 2100))
  (local.set $n (i32.add (local.get $n) (i32.const 1)))
  (br_if $again (i32.lt_u (local.get $n) (i32.const 26))))
(call $allow (i32.const 1024) (i32.const 3))
