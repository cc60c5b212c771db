(call $deny (i32.const 2) (i32.load offset=44 (local.get $facts)))
