;; Hides results of flags whose keys begin with a prefix from SDKs that do not evaluate themselves.
;;
;; `wasm-tools component embed wit --world plugin --dummy --wat` prints names and types of all functions. Records and variants
;; have the layout of the canonical ABI: fields in order, each at a multiple of its alignment.
(module
  (import "cm32p2|yardarm:plugin/results@0.1" "[method]result-set.flags" (func $flags (param $results i32) (param $result i32)))

{{prelude}}
  ;; The configuration begins with `{"hide_prefix":"`.
  (global $value_begins i32 (i32.const 16))

  ;; A flag is a key, with address and length.
  (func $is_hidden (param $flag i32) (result i32)
    (if (i32.lt_u (i32.load offset=4 (local.get $flag)) (global.get $value_length)) (then (return (i32.const 0))))
    (call $is_same (i32.load (local.get $flag)) (global.get $value) (global.get $value_length)))

  (func (export "cm32p2|yardarm:plugin/evaluation-transform@0.1|transform")
    (param $request i32) (param $context i32) (param $evaluated i32) (result i32)
    (local $flag i32)
    (local $count i32)
    (local $index i32)
    (local $edits i32)
    (local $edit i32)
    (call $flags (local.get $evaluated) (i32.const 256))
    (local.set $flag (i32.load (i32.const 256)))
    (local.set $count (i32.load (i32.const 260)))
    ;; An edit has 40 bytes: the case, 0 for `drop`, and the index; the others have more.
    (local.set $edits (call $allocate (i32.mul (local.get $count) (i32.const 40))))
    (local.set $edit (local.get $edits))
    (block $done
      (loop $next
        (br_if $done (i32.eq (local.get $index) (local.get $count)))
        (if (call $is_hidden (local.get $flag))
          (then
            (i32.store (local.get $edit) (i32.const 0))
            (i32.store offset=4 (local.get $edit) (local.get $index))
            (local.set $edit (i32.add (local.get $edit) (i32.const 40)))))
        (local.set $flag (i32.add (local.get $flag) (i32.const 8)))
        (local.set $index (i32.add (local.get $index) (i32.const 1)))
        (br $next)))
    ;; result<list<edit>, plugin-error>: 0 for success, address and length of the list
    (i32.store (i32.const 512) (i32.const 0))
    (i32.store (i32.const 516) (local.get $edits))
    (i32.store (i32.const 520) (i32.div_u (i32.sub (local.get $edit) (local.get $edits)) (i32.const 40)))
    (i32.const 512))
  (export "cm32p2|yardarm:plugin/evaluation-transform@0.1|transform_post" (func $free))
)
