//! A binding file beside a plugin.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &str| {
    yardarm_wasm::fuzzing::manifest(input);
});
