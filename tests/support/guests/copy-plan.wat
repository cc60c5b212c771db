(data (i32.const 2048) "user")
(data (i32.const 2056) "plan")
(data (i32.const 2064) "tier")
;; body
(call $context_attribute
  (local.get $context) (i32.const 2048) (i32.const 4) (i32.const 2056) (i32.const 4) (i32.const 512))
(i32.store (i32.const 4096) (i32.const 2048))
(i32.store (i32.const 4100) (i32.const 4))
(i32.store (i32.const 4104) (i32.const 2064))
(i32.store (i32.const 4108) (i32.const 4))
(i32.store (i32.const 4112) (i32.load (i32.const 516)))
(i32.store (i32.const 4116) (i32.load (i32.const 520)))
(call $list (i32.const 4096) (i32.load8_u (i32.const 512)))
