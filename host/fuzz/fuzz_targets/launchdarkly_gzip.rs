//! A compressed post of events, intact or damaged.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    yardarm_launchdarkly::fuzzing::gzip(input);
});
