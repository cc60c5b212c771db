//! A post of events that was compressed, whole or damaged.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    yardarm_launchdarkly::fuzzing::gzip(input);
});
