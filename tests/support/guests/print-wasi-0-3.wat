(data (i32.const 2048) "printed by 0.3\nwithout an end")
;; Traps unless the list at the address is empty.
(func $require_empty (param $at i32)
  (if (i32.load offset=4 (local.get $at)) (then unreachable)))
;; body
(local $ends i64)
(call $wasi3_environment (i32.const 512))
(call $require_empty (i32.const 512))
(call $wasi3_arguments (i32.const 512))
(call $require_empty (i32.const 512))
(call $wasi3_folders (i32.const 512))
(call $require_empty (i32.const 512))
(local.set $ends (call $stdout_stream))
(drop (call $wasi3_stdout (i32.wrap_i64 (local.get $ends))))
;; 29 bytes were written at once: the upper bits of the result are their number, the lower four that the stream is open.
(if (i32.ne
      (call $stdout_write
        (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32))) (i32.const 2048) (i32.const 29))
      (i32.const 464))
  (then unreachable))
(call $stdout_close (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32))))
(call $allow (i32.const 1024) (i32.const 3))
