//! A status document of a relay that is upstream.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| yardarm_launchdarkly::fuzzing::relay_status(bytes));
