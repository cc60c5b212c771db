//! Any flag and segment, evaluated for any target: no input may panic, loop or exhaust memory.
#![no_main]

use std::sync::Arc;

use yardarm_harness_eval::evaluation::Ruleset;
use yardarm_harness_eval::model::{Flag, Segment, Target};

libfuzzer_sys::fuzz_target!(|input: (&str, &str, &str)| {
    let (flag, segment, target) = input;
    let (Ok(flag), Ok(target)) = (serde_json::from_str(flag), serde_json::from_str::<Target>(target)) else { return };
    let Ok(flag) = Flag::read(flag) else { return };
    let segment = serde_json::from_str(segment).ok().and_then(|it| Segment::read(it).ok());
    let segments: Vec<_> = segment.into_iter().map(Arc::new).collect();
    let ruleset = Ruleset::build(&[Arc::new(flag)], &segments);
    ruleset.evaluate_all(&target, &mut |_, _| ());
});
