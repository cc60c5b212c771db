(local $first i32)
(if (i32.eqz (i32.load offset=44 (local.get $facts))) (then (return (call $abstain))))
(local.set $first (i32.load offset=40 (local.get $facts)))
(call $allow (i32.load offset=8 (local.get $first)) (i32.load offset=12 (local.get $first)))
