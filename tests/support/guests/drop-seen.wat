(local $at i32) (local $n i32)
(local.set $at (call $verdicts (local.get $count)))
(block $done
  (loop $again
    (br_if $done (i32.ge_u (local.get $n) (local.get $count)))
    ;; The verdict is `drop`, 1, if the event's body is `some`, 1.
    (i32.store8
      (i32.add (local.get $at) (i32.mul (local.get $n) (i32.const 12)))
      (i32.load8_u offset=16 (i32.add (local.get $events) (i32.mul (local.get $n) (i32.const 32)))))
    (local.set $n (i32.add (local.get $n) (i32.const 1)))
    (br $again)))
(call $list (local.get $at) (local.get $count))
