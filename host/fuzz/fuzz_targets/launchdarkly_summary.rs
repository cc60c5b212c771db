//! Summarizing one event: the output must be JSON for any input.
#![no_main]

libfuzzer_sys::fuzz_target!(|event: &str| {
    yardarm_launchdarkly::fuzzing::summary(event);
});
