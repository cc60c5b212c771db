;; Tells flags the country that a proxy has found.
;;
;; `wasm-tools component embed wit --world plugin --dummy --wat` prints names and types of all functions. Records and variants
;; have the layout of the canonical ABI: fields in order, each at a multiple of its alignment.
(module
  (import "cm32p2|yardarm:plugin/request@0.1" "[method]request.header"
    (func $header (param $request i32) (param $name i32) (param $length i32) (param $result i32)))
  (import "cm32p2|yardarm:plugin/context@0.1" "[method]context.kinds" (func $kinds (param $context i32) (param $result i32)))

{{prelude}}
  ;; The configuration begins with `{"kind":"`.
  (global $value_begins i32 (i32.const 9))
  (data (i32.const 1152) "x-country")
  (data (i32.const 1168) "country")
  ;; The value that is set, as JSON text; the letters are filled in.
  (data (i32.const 1184) "\22  \22")

  (func $is_letter (param $byte i32) (result i32)
    (i32.lt_u (i32.sub (local.get $byte) (i32.const 0x41 (; A ;))) (i32.const 26)))

  ;; Fills in the country; returns 0 if there is none.
  (func $read_country (param $request i32) (result i32)
    (local $at i32)
    (call $header (local.get $request) (i32.const 1152) (i32.const 9) (i32.const 256))
    ;; list<list<u8>>: address and length; so is each of the lists in it.
    (if (i32.eqz (i32.load (i32.const 260))) (then (return (i32.const 0))))
    (local.set $at (i32.load (i32.const 256)))
    (if (i32.ne (i32.load offset=4 (local.get $at)) (i32.const 2)) (then (return (i32.const 0))))
    (local.set $at (i32.load (local.get $at)))
    (i32.store16 (i32.const 1185) (i32.load16_u (local.get $at)))
    (i32.and
      (call $is_letter (i32.load8_u (local.get $at)))
      (call $is_letter (i32.load8_u offset=1 (local.get $at)))))

  (func $has_kind (param $context i32) (result i32)
    (local $at i32)
    (local $count i32)
    (call $kinds (local.get $context) (i32.const 256))
    (local.set $at (i32.load (i32.const 256)))
    (local.set $count (i32.load (i32.const 260)))
    (loop $next
      (if (i32.eqz (local.get $count)) (then (return (i32.const 0))))
      (if (i32.eq (i32.load offset=4 (local.get $at)) (global.get $value_length))
        (then
          (if (call $is_same (i32.load (local.get $at)) (global.get $value) (global.get $value_length))
            (then (return (i32.const 1))))))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (local.set $count (i32.sub (local.get $count) (i32.const 1)))
      (br $next))
    unreachable)

  (func (export "cm32p2|yardarm:plugin/context-enrichment@0.1|enrich")
    (param $request i32) (param $context i32) (result i32)
    ;; result<list<attribute>, plugin-error>: 0 for success, address and length of the list
    (i32.store (i32.const 512) (i32.const 0))
    (i32.store (i32.const 516) (i32.const 528))
    (i32.store (i32.const 520) (i32.const 0))
    (if (i32.and (call $read_country (local.get $request)) (call $has_kind (local.get $context)))
      (then
        (i32.store (i32.const 520) (i32.const 1))
        ;; An attribute has 24 bytes: kind, name and value, each with address and length.
        (i32.store (i32.const 528) (global.get $value))
        (i32.store (i32.const 532) (global.get $value_length))
        (i32.store (i32.const 536) (i32.const 1168))
        (i32.store (i32.const 540) (i32.const 7))
        (i32.store (i32.const 544) (i32.const 1184))
        (i32.store (i32.const 548) (i32.const 4))))
    (i32.const 512))
  (export "cm32p2|yardarm:plugin/context-enrichment@0.1|enrich_post" (func $free))
)
