;; Admits callers that present a token.
;;
;; `wasm-tools component embed wit --world plugin --dummy --wat` prints names and types of all functions. Records and variants
;; have the layout of the canonical ABI: fields in order, each at a multiple of its alignment.
(module
  (import "cm32p2|yardarm:plugin/request@0.1" "[method]request.header"
    (func $header (param $request i32) (param $name i32) (param $length i32) (param $result i32)))

{{prelude}}
  ;; The configuration begins with `{"token":"`.
  (global $value_begins i32 (i32.const 10))
  (data (i32.const 1152) "x-token")
  (data (i32.const 1168) "visitor")

  (func $has_token (param $request i32) (result i32)
    (local $at i32)
    (local $count i32)
    (call $header (local.get $request) (i32.const 1152) (i32.const 7) (i32.const 256))
    ;; list<list<u8>>: address and length; so is each of the lists in it.
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

  (func (export "cm32p2|yardarm:plugin/request-auth@0.1|authenticate") (param $request i32) (result i32)
    ;; result<decision, plugin-error>: 0 for success, and then the decision
    (memory.fill (i32.const 512) (i32.const 0) (i32.const 40))
    (if (call $has_token (local.get $request))
      (then
        ;; The case 0, `allow`, with an identity: 1, and its principal.
        (i32.store (i32.const 520) (i32.const 1))
        (i32.store (i32.const 524) (i32.const 1168))
        (i32.store (i32.const 528) (i32.const 7)))
      (else
        ;; The case 1, `deny`, with the class 1, `forbidden`.
        (i32.store (i32.const 516) (i32.const 1))
        (i32.store (i32.const 520) (i32.const 1))))
    (i32.const 512))
  (export "cm32p2|yardarm:plugin/request-auth@0.1|authenticate_post" (func $free))
)
