(global $calls (mut i32) (i32.const 0))
;; body
(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
(call $deny (i32.const 2) (global.get $calls))
