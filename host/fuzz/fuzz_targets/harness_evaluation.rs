//! Evaluation of an arbitrary flag, segment and target: no input may panic, loop or exhaust memory.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: (&str, &str, &str)| {
    yardarm_harness::fuzzing::evaluate(input.0, input.1, input.2);
});
