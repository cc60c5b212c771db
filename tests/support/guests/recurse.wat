(func $deeper (param $n i64) (result i64)
  (i64.add (local.get $n) (call $deeper (i64.add (local.get $n) (i64.const 1)))))
;; body
(drop (call $deeper (i64.const 0)))
unreachable
