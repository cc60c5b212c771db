//! Data from Harness other than flags: tokens and events of a stream.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &str| {
    yardarm_harness::fuzzing::message(input);
});
