//! The inspection of component files. As seeds, the component files of sample plugins are useful.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| yardarm_wasm::fuzzing::component(bytes));
