//! Evaluation of an arbitrary flag and context: no input may panic, loop or exhaust memory.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: (&str, &str)| {
    yardarm_launchdarkly::fuzzing::evaluate(input.0, input.1.as_bytes());
});
