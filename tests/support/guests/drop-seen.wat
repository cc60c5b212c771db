(local $n i32) (local $edits i32)
(block $done
  (loop $again
    (br_if $done (i32.ge_u (local.get $n) (call $batch_len (local.get $batch))))
    (call $batch_get (local.get $batch) (local.get $n) (i32.const 512))
    ;; The event is dropped if its body is `some`.
    (if (i32.load8_u (i32.const 552))
      (then
        (i32.store (i32.add (i32.const 4096) (i32.mul (local.get $edits) (i32.const 16))) (i32.const 0))
        (i32.store (i32.add (i32.const 4100) (i32.mul (local.get $edits) (i32.const 16))) (local.get $n))
        (local.set $edits (i32.add (local.get $edits) (i32.const 1)))))
    (local.set $n (i32.add (local.get $n) (i32.const 1)))
    (br $again)))
(call $list (i32.const 4096) (local.get $edits))
