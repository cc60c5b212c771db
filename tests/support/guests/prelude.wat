(module
  {{imports}}
  (memory (export "cm32p2_memory") 1)
  ;; Below 16384: results, names, data of fragments. Above: data passed in by the host, freed after each call.
  (global $heap (mut i32) (i32.const 16384))
  ;; Where the data of calls begins: behind the configuration.
  (global $call_data (mut i32) (i32.const 16384))
  ;; The configuration, as passed to init.
  (global $config (mut i32) (i32.const 0))
  (global $config_length (mut i32) (i32.const 0))
  (data (i32.const 1024) "{{name}}")

  (func $alloc (param $size i32) (param $align i32) (result i32)
    (local $at i32)
    (local.set $at
      (i32.and
        (i32.add (global.get $heap) (i32.sub (local.get $align) (i32.const 1)))
        (i32.sub (i32.const 0) (local.get $align))))
    (global.set $heap (i32.add (local.get $at) (local.get $size)))
    (block $fits
      (loop $more
        (br_if $fits (i32.le_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536))))
        (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))
        unreachable))
    (local.get $at))
  (func (export "cm32p2_realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
    (call $alloc (local.get $size) (local.get $align)))

  ;; Results of hooks are written at 256.
  (func $allow (param $text i32) (param $length i32) (result i32)
    (memory.fill (i32.const 256) (i32.const 0) (i32.const 48))
    (i32.store8 (i32.const 264) (i32.const 1))
    (i32.store (i32.const 268) (local.get $text))
    (i32.store (i32.const 272) (local.get $length))
    (i32.const 256))
  ;; 0 unauthorized, 1 forbidden, 2 rate-limited, 3 unavailable; no seconds if 0
  (func $deny (param $class i32) (param $seconds i32) (result i32)
    (memory.fill (i32.const 256) (i32.const 0) (i32.const 48))
    (i32.store8 (i32.const 260) (i32.const 1))
    (i32.store8 (i32.const 264) (local.get $class))
    (i32.store8 (i32.const 280) (i32.ne (local.get $seconds) (i32.const 0)))
    (i32.store (i32.const 284) (local.get $seconds))
    (i32.const 256))
  (func $abstain (result i32)
    (i32.store (i32.const 256) (i32.const 0))
    (i32.store (i32.const 260) (i32.const 2))
    (i32.const 256))
  ;; Allows with the text that an import has returned as an option at the address; abstains if there is none.
  (func $allow_option (param $at i32) (result i32)
    (if (i32.eqz (i32.load8_u (local.get $at))) (then (return (call $abstain))))
    (call $allow (i32.load offset=4 (local.get $at)) (i32.load offset=8 (local.get $at))))
  (func $list (param $items i32) (param $count i32) (result i32)
    (i32.store (i32.const 256) (i32.const 0))
    (i32.store (i32.const 260) (local.get $items))
    (i32.store (i32.const 264) (local.get $count))
    (i32.const 256))
  ;; 0 invalid-input, 1 temporary, 2 internal
  (func $fail (param $kind i32) (param $text i32) (param $length i32) (result i32)
    (i32.store (i32.const 256) (i32.const 1))
    (i32.store (i32.const 260) (local.get $kind))
    (i32.store (i32.const 264) (local.get $text))
    (i32.store (i32.const 268) (local.get $length))
    (i32.const 256))
  ;; One published value.
  (func $publish (param $key i32) (param $key_length i32) (param $value i32) (param $value_length i32) (result i32)
    (i32.store (i32.const 4096) (local.get $key))
    (i32.store (i32.const 4100) (local.get $key_length))
    (i32.store (i32.const 4104) (local.get $value))
    (i32.store (i32.const 4108) (local.get $value_length))
    (i32.store (i32.const 256) (i32.const 0))
    (i32.store (i32.const 260) (i32.const 1))
    (i32.store (i32.const 264) (i32.const 4096))
    (i32.store (i32.const 268) (i32.const 1))
    (i32.const 256))
  ;; No edits.
  (func $nothing (result i32)
    (call $list (i32.const 4096) (i32.const 0)))
  ;; One edit, `drop` of the index. The same bytes for all hooks.
  (func $drop_one (param $index i32) (result i32)
    (memory.fill (i32.const 4096) (i32.const 0) (i32.const 40))
    (i32.store (i32.const 4100) (local.get $index))
    (call $list (i32.const 4096) (i32.const 1)))

  (func (export "cm32p2|yardarm:plugin/lifecycle@{{short}}|init") (param $at i32) (param $length i32) (result i32)
    (global.set $config (local.get $at))
    (global.set $config_length (local.get $length))
    (global.set $call_data (global.get $heap))
    {{init}})
  {{items}}
  (@custom "yardarm:manifest" "{{manifest}}")
)
