(data (i32.const 2048) "{\"redacted\":true}")
;; body
(local $at i32)
(local.set $at (call $verdicts (local.get $count)))
(i32.store8 (local.get $at) (i32.const 2))
(i32.store offset=4 (local.get $at) (i32.const 2048))
(i32.store offset=8 (local.get $at) (i32.const 17))
(call $list (local.get $at) (local.get $count))
