;; Drops events of some kinds.
;;
;; `wasm-tools component embed wit --world plugin --dummy --wat` prints names and types of all functions. Records and variants
;; have the layout of the canonical ABI: fields in order, each at a multiple of its alignment.
(module
  (import "cm32p2|yardarm:plugin/events@0.1" "[method]batch.kinds" (func $kinds (param $batch i32) (param $result i32)))

{{prelude}}
  ;; The configuration begins with `{"drop_kinds":[`.
  (global $value_begins i32 (i32.const 15))

  ;; Returns the address of the quote that ends the text at the address; there are no backslashes.
  (func $end_of_text (param $at i32) (result i32)
    (loop $next
      (if (i32.eq (i32.load8_u (local.get $at)) (i32.const 0x22 (; " ;))) (then (return (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br $next))
    unreachable)

  ;; Goes through the configured kinds, which are in quotes and have commas between them.
  (func $is_dropped (param $kind i32) (param $length i32) (result i32)
    (local $at i32)
    (local $end i32)
    (local.set $at (global.get $value))
    (loop $next
      (if (i32.ge_u (local.get $at) (i32.add (global.get $value) (global.get $value_length)))
        (then (return (i32.const 0))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (local.set $end (call $end_of_text (local.get $at)))
      (if (i32.eq (i32.sub (local.get $end) (local.get $at)) (local.get $length))
        (then
          (if (call $is_same (local.get $at) (local.get $kind) (local.get $length)) (then (return (i32.const 1))))))
      (local.set $at (i32.add (local.get $end) (i32.const 2)))
      (br $next))
    unreachable)

  (func (export "cm32p2|yardarm:plugin/event-filter@0.1|filter") (param $request i32) (param $batch i32) (result i32)
    (local $kind i32)
    (local $count i32)
    (local $index i32)
    (local $edits i32)
    (local $edit i32)
    ;; list<option<string>>: address and length; each option has 12 bytes: whether there is a text, its address, its length
    (call $kinds (local.get $batch) (i32.const 256))
    (local.set $kind (i32.load (i32.const 256)))
    (local.set $count (i32.load (i32.const 260)))
    ;; An edit has 16 bytes: the case, 0 for `drop`, and the index.
    (local.set $edits (call $allocate (i32.mul (local.get $count) (i32.const 16))))
    (local.set $edit (local.get $edits))
    (block $done
      (loop $next
        (br_if $done (i32.eq (local.get $index) (local.get $count)))
        (if (i32.load8_u (local.get $kind))
          (then
            (if (call $is_dropped (i32.load offset=4 (local.get $kind)) (i32.load offset=8 (local.get $kind)))
              (then
                (i32.store (local.get $edit) (i32.const 0))
                (i32.store offset=4 (local.get $edit) (local.get $index))
                (local.set $edit (i32.add (local.get $edit) (i32.const 16)))))))
        (local.set $kind (i32.add (local.get $kind) (i32.const 12)))
        (local.set $index (i32.add (local.get $index) (i32.const 1)))
        (br $next)))
    ;; result<list<edit>, plugin-error>: 0 for success, address and length of the list
    (i32.store (i32.const 512) (i32.const 0))
    (i32.store (i32.const 516) (local.get $edits))
    (i32.store (i32.const 520) (i32.div_u (i32.sub (local.get $edit) (local.get $edits)) (i32.const 16)))
    (i32.const 512))
  (export "cm32p2|yardarm:plugin/event-filter@0.1|filter_post" (func $free))
)
