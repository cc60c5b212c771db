//! A post of events: compressed or not, an array or not.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    yardarm_launchdarkly::fuzzing::post(input);
});
