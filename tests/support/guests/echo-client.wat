(if (i32.eqz (i32.load8_u offset=60 (local.get $facts))) (then (return (call $abstain))))
(call $allow (i32.load offset=64 (local.get $facts)) (i32.load offset=68 (local.get $facts)))
