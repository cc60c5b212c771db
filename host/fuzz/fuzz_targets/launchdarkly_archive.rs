//! The data archive of offline mode, with arbitrary content.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    yardarm_launchdarkly::fuzzing::archive(input);
});
