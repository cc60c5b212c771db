;; Posts which flags have changed: the environment and then one item per line.
;;
;; `wasm-tools component embed wit --world plugin --dummy --wat` prints names and types of all functions. Records and variants
;; have the layout of the canonical ABI: fields in order, each at a multiple of its alignment.
(module
  (import "cm32p2|yardarm:plugin/http@0.1" "send"
    (func $send
      (param $method i32) (param $method_length i32) (param $url i32) (param $url_length i32)
      (param $headers i32) (param $header_count i32) (param $has_body i32) (param $body i32) (param $body_length i32)
      (param $has_timeout i32) (param $timeout i32) (param $result i32)))

{{prelude}}
  ;; The configuration begins with `{"url":"`.
  (global $value_begins i32 (i32.const 8))
  (data (i32.const 1152) "POST")
  (data (i32.const 1168) "content-type")
  (data (i32.const 1184) "text/plain")
  ;; A header: name and value, each with address and length.
  (data (i32.const 1200) "\90\04\00\00\0c\00\00\00\a0\04\00\00\0a\00\00\00")
  (data (i32.const 1216) "the changes were not accepted")

  ;; Appends a text and one more byte; returns the address behind it.
  (func $append (param $to i32) (param $text i32) (param $length i32) (param $last i32) (result i32)
    (memory.copy (local.get $to) (local.get $text) (local.get $length))
    (i32.store8 (i32.add (local.get $to) (local.get $length)) (local.get $last))
    (i32.add (i32.add (local.get $to) (local.get $length)) (i32.const 1)))

  (func (export "cm32p2|yardarm:plugin/change-listener@0.1|changed")
    (param $vendor i32) (param $vendor_length i32) (param $environment i32) (param $environment_length i32)
    (param $items i32) (param $count i32) (param $left_out i32) (param $at_ms i64) (result i32)
    (local $text i32)
    (local $end i32)
    (local $item i32)
    (local $items_end i32)
    (local $status i32)
    ;; An item has 32 bytes: its kind and its key, each with address and length, its version, and whether it is deleted. All
    ;; of it is in memory already, so the text is not longer than what is there.
    (local.set $items_end (i32.add (local.get $items) (i32.mul (local.get $count) (i32.const 32))))
    (local.set $text (call $allocate (i32.add (global.get $heap) (i32.const 1))))
    (local.set $end (call $append (local.get $text) (local.get $environment) (local.get $environment_length) (i32.const 10)))
    (local.set $item (local.get $items))
    (block $done
      (loop $next
        (br_if $done (i32.eq (local.get $item) (local.get $items_end)))
        (local.set $end
          (call $append
            (local.get $end) (i32.load (local.get $item)) (i32.load offset=4 (local.get $item)) (i32.const 32)))
        (local.set $end
          (call $append
            (local.get $end) (i32.load offset=8 (local.get $item)) (i32.load offset=12 (local.get $item)) (i32.const 10)))
        (local.set $item (i32.add (local.get $item) (i32.const 32)))
        (br $next)))
    (call $send
      (i32.const 1152) (i32.const 4) (global.get $value) (global.get $value_length) (i32.const 1200) (i32.const 1)
      (i32.const 1) (local.get $text) (i32.sub (local.get $end) (local.get $text))
      (i32.const 0) (i32.const 0) (i32.const 256))
    ;; result<http-response, http-error>: 0 for success, and the status
    (local.set $status (i32.load16_u (i32.const 260)))
    (if (i32.or (i32.load8_u (i32.const 256)) (i32.ge_u (i32.sub (local.get $status) (i32.const 200)) (i32.const 100)))
      ;; The gateway calls again, with later changes, after a pause.
      (then (return (call $error (i32.const 1) (i32.const 1216) (i32.const 29)))))
    ;; result<_, plugin-error>: 0 for success
    (i32.store (i32.const 512) (i32.const 0))
    (i32.const 512))
  (export "cm32p2|yardarm:plugin/change-listener@0.1|changed_post" (func $free))
)
