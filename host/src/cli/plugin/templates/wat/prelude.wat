  ;; Memory, and the configuration. At 256 are results of functions of the host, at 512 those of this plugin, at 1024 texts.

  (memory (export "cm32p2_memory") 1)
  ;; The next free byte. What the host passes to `init` is kept; the rest is freed after each call.
  (global $heap (mut i32) (i32.const 4096))
  (global $kept (mut i32) (i32.const 4096))
  ;; The value in the configuration.
  (global $value (mut i32) (i32.const 0))
  (global $value_length (mut i32) (i32.const 0))

  (func $allocate (param $size i32) (result i32)
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
    (call $allocate (local.get $size)))

  (func $is_same (param $a i32) (param $b i32) (param $length i32) (result i32)
    (loop $next
      (if (i32.eqz (local.get $length)) (then (return (i32.const 1))))
      (local.set $length (i32.sub (local.get $length) (i32.const 1)))
      (br_if $next
        (i32.eq
          (i32.load8_u (i32.add (local.get $a) (local.get $length)))
          (i32.load8_u (i32.add (local.get $b) (local.get $length))))))
    (i32.const 0))

  ;; Returns an error: a `result` whose second case is a plugin-error. Case 0 is `invalid-input`, 1 is `temporary`.
  (func $error (param $case i32) (param $text i32) (param $length i32) (result i32)
    (i32.store (i32.const 512) (i32.const 1))
    (i32.store (i32.const 516) (local.get $case))
    (i32.store (i32.const 520) (local.get $text))
    (i32.store (i32.const 524) (local.get $length))
    (i32.const 512))

  ;; The gateway has checked the configuration against the manifest and writes it without white space, so the value is what
  ;; is between the first bytes, `$value_begins` of them, and the last two.
  (func (export "cm32p2|yardarm:plugin/lifecycle@0.1|init") (param $config i32) (param $length i32) (result i32)
    (local $at i32)
    (global.set $kept (global.get $heap))
    (if (i32.lt_u (local.get $length) (i32.add (global.get $value_begins) (i32.const 2)))
      (then (return (call $error (i32.const 0) (i32.const 1024) (i32.const 45)))))
    (global.set $value (i32.add (local.get $config) (global.get $value_begins)))
    (global.set $value_length (i32.sub (local.get $length) (i32.add (global.get $value_begins) (i32.const 2))))
    (block $read
      (loop $next
        (br_if $read (i32.eq (local.get $at) (global.get $value_length)))
        (if (i32.eq (i32.load8_u (i32.add (global.get $value) (local.get $at))) (i32.const 0x5c (; \ ;)))
          (then (return (call $error (i32.const 0) (i32.const 1024) (i32.const 45)))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next)))
    ;; result<_, plugin-error>: 0 for success
    (i32.store (i32.const 512) (i32.const 0))
    (i32.const 512))
  (data (i32.const 1024) "the configuration must be without backslashes")

  ;; Called when the host has read a result.
  (func $free (param $result i32)
    (global.set $heap (global.get $kept)))
