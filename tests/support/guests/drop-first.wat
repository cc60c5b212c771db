(local $at i32)
(local.set $at (call $verdicts (local.get $count)))
(i32.store8 (local.get $at) (i32.const 1))
(call $list (local.get $at) (local.get $count))
