(if (i32.eqz (i32.load8_u offset=48 (local.get $facts))) (then (return (call $abstain))))
(call $allow (i32.load offset=52 (local.get $facts)) (i32.load offset=56 (local.get $facts)))
