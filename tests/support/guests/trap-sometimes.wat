(global $calls (mut i32) (i32.const 0))
;; body
(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
(if (i32.eq (global.get $calls) (i32.const 9999)) (then unreachable))
(call $allow (i32.const 1024) (i32.const 3))
