(loop $again
  (call $log (i32.const 2) (i32.const 1024) (i32.const 3))
  (br $again))
unreachable
