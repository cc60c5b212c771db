;; Hides flags whose keys begin with a prefix from all SDKs.
;;
;; `wasm-tools component embed wit --world plugin --dummy --wat` prints names and types of all functions. Records and variants
;; have the layout of the canonical ABI: fields in order, each at a multiple of its alignment.
(module
  (import "cm32p2|yardarm:plugin/items@0.1" "[method]item-set.changed" (func $changed (param $items i32) (param $result i32)))

{{prelude}}
  ;; The configuration begins with `{"hide_prefix":"`.
  (global $value_begins i32 (i32.const 16))
  (data (i32.const 1152) "flag")

  ;; An item has 32 bytes: its kind and its key, each with address and length, its version, and whether it is deleted.
  (func $is_hidden (param $item i32) (result i32)
    (if (i32.load8_u offset=24 (local.get $item)) (then (return (i32.const 0))))
    (if (i32.ne (i32.load offset=4 (local.get $item)) (i32.const 4)) (then (return (i32.const 0))))
    (if (i32.lt_u (i32.load offset=12 (local.get $item)) (global.get $value_length)) (then (return (i32.const 0))))
    (i32.and
      (call $is_same (i32.load (local.get $item)) (i32.const 1152) (i32.const 4))
      (call $is_same (i32.load offset=8 (local.get $item)) (global.get $value) (global.get $value_length))))

  (func (export "cm32p2|yardarm:plugin/payload-transform@0.1|transform") (param $items i32) (result i32)
    (local $item i32)
    (local $count i32)
    (local $index i32)
    (local $edits i32)
    (local $edit i32)
    (call $changed (local.get $items) (i32.const 256))
    (local.set $item (i32.load (i32.const 256)))
    (local.set $count (i32.load (i32.const 260)))
    ;; An edit has 36 bytes: the case, 0 for `drop`, and the index; the others have more.
    (local.set $edits (call $allocate (i32.mul (local.get $count) (i32.const 36))))
    (local.set $edit (local.get $edits))
    (block $done
      (loop $next
        (br_if $done (i32.eq (local.get $index) (local.get $count)))
        (if (call $is_hidden (local.get $item))
          (then
            (i32.store (local.get $edit) (i32.const 0))
            (i32.store offset=4 (local.get $edit) (local.get $index))
            (local.set $edit (i32.add (local.get $edit) (i32.const 36)))))
        (local.set $item (i32.add (local.get $item) (i32.const 32)))
        (local.set $index (i32.add (local.get $index) (i32.const 1)))
        (br $next)))
    ;; result<list<edit>, plugin-error>: 0 for success, address and length of the list
    (i32.store (i32.const 512) (i32.const 0))
    (i32.store (i32.const 516) (local.get $edits))
    (i32.store (i32.const 520) (i32.div_u (i32.sub (local.get $edit) (local.get $edits)) (i32.const 36)))
    (i32.const 512))
  (export "cm32p2|yardarm:plugin/payload-transform@0.1|transform_post" (func $free))
)
