//! A configuration file of ld-relay.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| yardarm_launchdarkly::fuzzing::relay_configuration(bytes));
