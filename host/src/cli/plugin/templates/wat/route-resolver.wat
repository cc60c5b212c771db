;; Chooses the environment of the tenant that a proxy names.
;;
;; `wasm-tools component embed wit --world plugin --dummy --wat` prints names and types of all functions. Records and variants
;; have the layout of the canonical ABI: fields in order, each at a multiple of its alignment.
(module
  (import "cm32p2|yardarm:plugin/request@0.1" "[method]request.header"
    (func $header (param $request i32) (param $name i32) (param $length i32) (param $result i32)))

{{prelude}}
  ;; The configuration begins with `{"prefix":"`.
  (global $value_begins i32 (i32.const 11))
  (data (i32.const 1152) "x-tenant")

  (func (export "cm32p2|yardarm:plugin/route-resolver@0.1|resolve") (param $request i32) (result i32)
    (local $tenant i32)
    (local $name i32)
    ;; result<option<string>, plugin-error>: 0 for success, 0 for no name
    (memory.fill (i32.const 512) (i32.const 0) (i32.const 16))
    (call $header (local.get $request) (i32.const 1152) (i32.const 8) (i32.const 256))
    ;; list<list<u8>>: address and length; so is each of the lists in it.
    (if (i32.eqz (i32.load (i32.const 260))) (then (return (i32.const 512))))
    (local.set $tenant (i32.load (i32.const 256)))
    (i32.store (i32.const 516) (i32.const 1))
    (i32.store (i32.const 524) (i32.add (global.get $value_length) (i32.load offset=4 (local.get $tenant))))
    (local.set $name (call $allocate (i32.load (i32.const 524))))
    (i32.store (i32.const 520) (local.get $name))
    (memory.copy (local.get $name) (global.get $value) (global.get $value_length))
    (memory.copy
      (i32.add (local.get $name) (global.get $value_length))
      (i32.load (local.get $tenant)) (i32.load offset=4 (local.get $tenant)))
    (i32.const 512))
  (export "cm32p2|yardarm:plugin/route-resolver@0.1|resolve_post" (func $free))
)
