(call $deny (i32.const 2) (i32.wrap_i64 (i64.div_u (call $now_ms) (i64.const 1000))))
