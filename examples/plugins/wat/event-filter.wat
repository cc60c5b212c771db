;; An event filter as WebAssembly text: drops events of configured kinds. It never sees the content of events.
;;
;; Configuration: {"drop_kinds":["click"]}, as the gateway writes it: without white space, and with escapes only where a
;; text needs them. Kinds that need some are refused.
;;
;; Names and types of the functions are those that `wasm-tools component embed WIT --world event-filter-plugin --dummy
;; --wat` prints; the layout of records and variants is that of the canonical ABI: fields in order, each at a multiple of
;; its alignment.
(module
  (import "cm32p2|yardarm:plugin/log@0.1" "enabled" (func $log_enabled (param $level i32) (result i32)))
  (import "cm32p2|yardarm:plugin/log@0.1" "log" (func $log (param $level i32) (param $text i32) (param $length i32)))
  (import "cm32p2|yardarm:plugin/metrics@0.1" "counter-add"
    (func $counter_add (param $name i32) (param $length i32) (param $delta i64) (param $labels i32) (param $count i32) (param $result i32)))
  (import "cm32p2|yardarm:plugin/events@0.1" "[method]batch.kinds" (func $batch_kinds (param $batch i32) (param $result i32)))
  (import "cm32p2|yardarm:plugin/events@0.1" "batch_drop" (func $batch_drop (param $batch i32)))
  (import "cm32p2|yardarm:plugin/request@0.1" "request_drop" (func $request_drop (param $request i32)))

  (memory (export "cm32p2_memory") 1)
  ;; At 256: results of functions of the host. At 512: results of this plugin.
  (data (i32.const 1024) "{\22drop_kinds\22:[")
  (data (i32.const 1056) "the configuration must be {\22drop_kinds\22:[\22click\22]}, with texts without escapes")
  (data (i32.const 1152) "dropped_total")
  (data (i32.const 1184) "events dropped")

  ;; The next free byte. What the host passes to `init` is kept; the rest is freed after each call.
  (global $heap (mut i32) (i32.const 4096))
  (global $kept (mut i32) (i32.const 4096))
  ;; The configured kinds, in quotes and with commas between them.
  (global $kinds (mut i32) (i32.const 0))
  (global $kinds_end (mut i32) (i32.const 0))

  (func $alloc (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
    (global.set $heap (i32.add (local.get $at) (local.get $size)))
    (block $fits
      (loop $more
        (br_if $fits (i32.le_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536))))
        (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))
        ;; Out of memory: ends the instance.
        unreachable))
    (local.get $at))

  ;; The host asks for memory here; it never resizes what it got.
  (func (export "cm32p2_realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
    (call $alloc (local.get $size)))

  (func $is_same (param $a i32) (param $b i32) (param $length i32) (result i32)
    (loop $next
      (if (i32.eqz (local.get $length)) (then (return (i32.const 1))))
      (local.set $length (i32.sub (local.get $length) (i32.const 1)))
      (br_if $next
        (i32.eq
          (i32.load8_u (i32.add (local.get $a) (local.get $length)))
          (i32.load8_u (i32.add (local.get $b) (local.get $length))))))
    (i32.const 0))

  ;; Returns the address of the quote that ends the text at the address; of the end if there is a backslash or no quote.
  (func $end_of_text (param $at i32) (param $end i32) (result i32)
    (local $byte i32)
    (loop $next
      (if (i32.ge_u (local.get $at) (local.get $end)) (then (return (local.get $end))))
      (local.set $byte (i32.load8_u (local.get $at)))
      (if (i32.eq (local.get $byte) (i32.const 0x22 (; " ;))) (then (return (local.get $at))))
      (if (i32.eq (local.get $byte) (i32.const 0x5c (; \ ;))) (then (return (local.get $end))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br $next))
    unreachable)

  ;; Returns whether the configuration from `$at` on is a list of texts and the bracket of the object, and remembers it.
  (func $read_kinds (param $at i32) (param $end i32) (result i32)
    (global.set $kinds (local.get $at))
    (block $list_ends
      (br_if $list_ends (i32.eq (i32.load8_u (local.get $at)) (i32.const 0x5d (; ] ;))))
      (loop $next
        (if (i32.ne (i32.load8_u (local.get $at)) (i32.const 0x22)) (then (return (i32.const 0))))
        (local.set $at (call $end_of_text (i32.add (local.get $at) (i32.const 1)) (local.get $end)))
        (if (i32.eq (local.get $at) (local.get $end)) (then (return (i32.const 0))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br_if $list_ends (i32.eq (i32.load8_u (local.get $at)) (i32.const 0x5d)))
        (if (i32.ne (i32.load8_u (local.get $at)) (i32.const 0x2c (; , ;))) (then (return (i32.const 0))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next)))
    (global.set $kinds_end (local.get $at))
    (i32.and
      (i32.eq (i32.load8_u offset=1 (local.get $at)) (i32.const 0x7d (; } ;)))
      (i32.eq (i32.add (local.get $at) (i32.const 2)) (local.get $end))))

  (func (export "cm32p2|yardarm:plugin/lifecycle@0.1|init") (param $config i32) (param $length i32) (result i32)
    (local $is_read i32)
    (global.set $kept (global.get $heap))
    ;; result<_, plugin-error>: 0 for success
    (i32.store (i32.const 512) (i32.const 0))
    (if (i32.eq (local.get $length) (i32.const 2 (; {} ;))) (then (return (i32.const 512))))
    (if (i32.gt_u (local.get $length) (i32.const 16))
      (then
        (if (call $is_same (local.get $config) (i32.const 1024) (i32.const 15))
          (then
            (local.set $is_read
              (call $read_kinds
                (i32.add (local.get $config) (i32.const 15))
                (i32.add (local.get $config) (local.get $length))))))))
    (if (i32.eqz (local.get $is_read))
      (then
        ;; 1 for an error, of the case 0, `invalid-input`, with address and length of the text
        (i32.store (i32.const 512) (i32.const 1))
        (i32.store (i32.const 516) (i32.const 0))
        (i32.store (i32.const 520) (i32.const 1056))
        (i32.store (i32.const 524) (i32.const 78))))
    (i32.const 512))

  (func $is_dropped (param $kind i32) (param $length i32) (result i32)
    (local $at i32)
    (local $end i32)
    (local.set $at (global.get $kinds))
    (loop $next
      (if (i32.ge_u (local.get $at) (global.get $kinds_end)) (then (return (i32.const 0))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (local.set $end (call $end_of_text (local.get $at) (global.get $kinds_end)))
      (if (i32.eq (i32.sub (local.get $end) (local.get $at)) (local.get $length))
        (then
          (if (call $is_same (local.get $at) (local.get $kind) (local.get $length)) (then (return (i32.const 1))))))
      ;; Behind the quote and the comma.
      (local.set $at (i32.add (local.get $end) (i32.const 2)))
      (br $next))
    unreachable)

  ;; Writes a log line and a metric about events that are dropped.
  (func $report (param $dropped i32)
    (if (i32.eqz (local.get $dropped)) (then (return)))
    (call $counter_add
      (i32.const 1152) (i32.const 13) (i64.extend_i32_u (local.get $dropped)) (i32.const 0) (i32.const 0) (i32.const 256))
    ;; 1 is `debug`
    (if (call $log_enabled (i32.const 1))
      (then (call $log (i32.const 1) (i32.const 1184) (i32.const 14)))))

  (func (export "cm32p2|yardarm:plugin/event-filter@0.1|filter") (param $request i32) (param $batch i32) (result i32)
    (local $kind i32)
    (local $count i32)
    (local $index i32)
    (local $edits i32)
    (local $edit i32)
    ;; list<option<string>>: address and length; each option has 12 bytes: whether there is a text, its address, its length
    (call $batch_kinds (local.get $batch) (i32.const 256))
    (local.set $kind (i32.load (i32.const 256)))
    (local.set $count (i32.load (i32.const 260)))
    ;; An edit has 16 bytes: the case, 0 for `drop`, and the index.
    (local.set $edits (call $alloc (i32.mul (local.get $count) (i32.const 16))))
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
    (local.set $count (i32.div_u (i32.sub (local.get $edit) (local.get $edits)) (i32.const 16)))
    (call $report (local.get $count))
    (call $batch_drop (local.get $batch))
    (call $request_drop (local.get $request))
    ;; result<list<edit>, plugin-error>: 0 for success, address and length of the list
    (i32.store (i32.const 512) (i32.const 0))
    (i32.store (i32.const 516) (local.get $edits))
    (i32.store (i32.const 520) (local.get $count))
    (i32.const 512))

  ;; Called when the host has read the result.
  (func (export "cm32p2|yardarm:plugin/event-filter@0.1|filter_post") (param $result i32)
    (global.set $heap (global.get $kept)))

  ;; Shown by `yardarm plugin inspect` and in the status of the gateway.
  (@custom "yardarm:manifest" "{\22name\22: \22wat-event-filter\22, \22version\22: \220.1.0\22, \22about\22: \22Drops events of some kinds\22}")
)
