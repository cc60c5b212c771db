//! A context sent by a client, in a path and in a body.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    yardarm_launchdarkly::fuzzing::context(input);
});
