//! Requests of Harness SDKs: bodies of authentication and metrics, a target in a header, a token.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    yardarm_harness::fuzzing::request(input);
});
