(call $list (call $verdicts (local.get $count)) (local.get $count))
