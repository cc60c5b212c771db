//! Events of FDv2 from upstream in any order, with arbitrary content, and the body of a poll.
#![no_main]

const NAMES: [&str; 8] =
    ["server-intent", "put-object", "delete-object", "payload-transferred", "error", "goodbye", "heart-beat", "other"];

libfuzzer_sys::fuzz_target!(|input: (Vec<(u8, &str)>, &str)| {
    let events: Vec<_> = input.0.iter().map(|(name, data)| (NAMES[usize::from(name % 8)], *data)).collect();
    yardarm_launchdarkly::fuzzing::transfer(&events, input.1);
});
