(local $n i32)
(loop $again
  (local.set $n (i32.add (local.get $n) (i32.const 1)))
  (br_if $again (i32.lt_u (local.get $n) (i32.const 9999))))
(call $allow (i32.const 1024) (i32.const 3))
