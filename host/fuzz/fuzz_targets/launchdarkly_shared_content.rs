//! Content that another gateway published: keys with texts.
#![no_main]

libfuzzer_sys::fuzz_target!(|entries: Vec<(&str, Option<&str>)>| yardarm_launchdarkly::fuzzing::shared_content(&entries));
