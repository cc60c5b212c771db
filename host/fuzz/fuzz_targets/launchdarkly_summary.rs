//! One event to be summarised: what leaves must be JSON, whatever came.
#![no_main]

libfuzzer_sys::fuzz_target!(|event: &str| {
    yardarm_launchdarkly::fuzzing::summary(event);
});
