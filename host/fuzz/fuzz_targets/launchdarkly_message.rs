//! One event of the upstream stream, with arbitrary content.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: (u8, &str)| {
    let event = ["put", "patch", "delete", "other"][usize::from(input.0 % 4)];
    yardarm_launchdarkly::fuzzing::message(event, input.1);
});
