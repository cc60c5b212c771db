;; Admits callers that present a token of a list, which is downloaded now and then: one token per line.
;;
;; `wasm-tools component embed wit --world plugin --dummy --wat` prints names and types of all functions. Records and variants
;; have the layout of the canonical ABI: fields in order, each at a multiple of its alignment.
(module
  (import "cm32p2|yardarm:plugin/http@0.1" "send"
    (func $send
      (param $method i32) (param $method_length i32) (param $url i32) (param $url_length i32)
      (param $headers i32) (param $header_count i32) (param $has_body i32) (param $body i32) (param $body_length i32)
      (param $has_timeout i32) (param $timeout i32) (param $result i32)))
  (import "cm32p2|yardarm:plugin/request@0.1" "[method]request.header"
    (func $header (param $request i32) (param $name i32) (param $length i32) (param $result i32)))
  (import "cm32p2|yardarm:plugin/shared@0.1" "get" (func $get (param $key i32) (param $length i32) (param $result i32)))
  (import "cm32p2|yardarm:plugin/shared@0.1" "version" (func $version (result i64)))

{{prelude}}
  ;; The configuration begins with `{"url":"`.
  (global $value_begins i32 (i32.const 8))
  (data (i32.const 1152) "GET")
  (data (i32.const 1168) "x-token")
  (data (i32.const 1184) "visitor")
  (data (i32.const 1200) "the list cannot be downloaded")

  ;; Writes a value of 16 bytes for each line: the line as its key, and no content, each with address and length. Returns the
  ;; address behind the last one. A token that is there twice is refused by the host, and what was published before stays.
  (func $read_lines (param $at i32) (param $end i32) (param $value i32) (result i32)
    (local $line i32)
    (local.set $line (local.get $at))
    (loop $next
      (if (i32.eq (local.get $at) (local.get $end))
        (then (return (call $end_line (local.get $line) (local.get $at) (local.get $value)))))
      (if (i32.eq (i32.load8_u (local.get $at)) (i32.const 10))
        (then
          (local.set $value (call $end_line (local.get $line) (local.get $at) (local.get $value)))
          (local.set $line (i32.add (local.get $at) (i32.const 1)))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br $next))
    unreachable)

  (func $end_line (param $line i32) (param $at i32) (param $value i32) (result i32)
    (if (i32.eq (local.get $line) (local.get $at)) (then (return (local.get $value))))
    (i32.store (local.get $value) (local.get $line))
    (i32.store offset=4 (local.get $value) (i32.sub (local.get $at) (local.get $line)))
    (i32.store offset=8 (local.get $value) (i32.const 0))
    (i32.store offset=12 (local.get $value) (i32.const 0))
    (i32.add (local.get $value) (i32.const 16)))

  (func (export "cm32p2|yardarm:plugin/background@0.1|refresh") (result i32)
    (local $body i32)
    (local $length i32)
    (local $values i32)
    (call $send
      (i32.const 1152) (i32.const 3) (global.get $value) (global.get $value_length)
      (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 256))
    ;; result<http-response, http-error>: 0 for success, status, address and number of headers, address and length of the body
    (if (i32.or (i32.load8_u (i32.const 256)) (i32.ne (i32.load16_u (i32.const 260)) (i32.const 200)))
      (then (return (call $error (i32.const 1) (i32.const 1200) (i32.const 29)))))
    (local.set $body (i32.load (i32.const 272)))
    (local.set $length (i32.load (i32.const 276)))
    ;; At most every second byte ends a line that is not empty.
    (local.set $values (call $allocate (i32.add (i32.mul (local.get $length) (i32.const 8)) (i32.const 16))))
    ;; result<option<list<value>>, plugin-error>: 0 for success, 1 for a list, and its address and length
    (i32.store (i32.const 512) (i32.const 0))
    (i32.store (i32.const 516) (i32.const 1))
    (i32.store (i32.const 520) (local.get $values))
    (i32.store (i32.const 524)
      (i32.div_u
        (i32.sub
          (call $read_lines (local.get $body) (i32.add (local.get $body) (local.get $length)) (local.get $values))
          (local.get $values))
        (i32.const 16)))
    (i32.const 512))
  (export "cm32p2|yardarm:plugin/background@0.1|refresh_post" (func $free))

  (func $has_token (param $request i32) (result i32)
    (local $at i32)
    (local $count i32)
    (call $header (local.get $request) (i32.const 1168) (i32.const 7) (i32.const 256))
    ;; list<list<u8>>: address and length; so is each of the lists in it.
    (local.set $at (i32.load (i32.const 256)))
    (local.set $count (i32.load (i32.const 260)))
    (loop $next
      (if (i32.eqz (local.get $count)) (then (return (i32.const 0))))
      (call $get (i32.load (local.get $at)) (i32.load offset=4 (local.get $at)) (i32.const 256))
      (if (i32.load8_u (i32.const 256)) (then (return (i32.const 1))))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (local.set $count (i32.sub (local.get $count) (i32.const 1)))
      (br $next))
    unreachable)

  ;; Writes a denial. The classes 1 and 3 are `forbidden` and `unavailable`.
  (func $deny (param $class i32) (result i32)
    (i32.store (i32.const 516) (i32.const 1))
    (i32.store (i32.const 520) (local.get $class))
    (i32.const 512))

  (func (export "cm32p2|yardarm:plugin/request-auth@0.1|authenticate") (param $request i32) (result i32)
    ;; result<decision, plugin-error>: 0 for success, and then the decision
    (memory.fill (i32.const 512) (i32.const 0) (i32.const 40))
    ;; Before there was a list, SDKs come back, which they would not do if they were denied as forbidden.
    (if (i64.eqz (call $version)) (then (return (call $deny (i32.const 3)))))
    (if (i32.eqz (call $has_token (local.get $request))) (then (return (call $deny (i32.const 1)))))
    ;; The case 0, `allow`, with an identity: 1, and its principal.
    (i32.store (i32.const 520) (i32.const 1))
    (i32.store (i32.const 524) (i32.const 1184))
    (i32.store (i32.const 528) (i32.const 7))
    (i32.const 512))
  (export "cm32p2|yardarm:plugin/request-auth@0.1|authenticate_post" (func $free))
)
