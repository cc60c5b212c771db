(if (i64.eqz (call $now_ms)) (then (return (call $abstain))))
(call $allow (i32.const 1024) (i32.const 3))
