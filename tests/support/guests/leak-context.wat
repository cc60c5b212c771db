(data (i32.const 2128) "useremailtarget")
(func $leak_kind (param $context i32) (param $kind i32) (param $length i32)
  (call $context_key (local.get $context) (local.get $kind) (local.get $length) (i32.const 512))
  (if (i32.load8_u (i32.const 512)) (then (call $leak (i32.load (i32.const 520)) (i32.load (i32.const 524)))))
  (call $context_attribute
    (local.get $context) (local.get $kind) (local.get $length) (i32.const 2132) (i32.const 5) (i32.const 512))
  (call $leak_option (i32.const 512)))
;; Leaks what contexts of both vendors have.
(func $leak_context (param $context i32)
  (call $leak_kind (local.get $context) (i32.const 2128) (i32.const 4))
  (call $leak_kind (local.get $context) (i32.const 2137) (i32.const 6)))
;; body
;; Leaks the key and an attribute of the context. Together with `leak-request.wat`.
(call $leak_context (local.get $context))
(call $nothing)
