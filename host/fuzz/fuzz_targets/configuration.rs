//! The text of a configuration file, from its syntax to the settings. Errors must not repeat keys of the file.
#![no_main]

use std::path::Path;

use yardarm::config::{Overrides, load_text};

libfuzzer_sys::fuzz_target!(|input: &str| {
    let _ = load_text(Path::new("y.toml"), input.to_owned(), &Overrides::default());
    // A key in a line that is not valid TOML must not be printed.
    let broken = format!("{input}\nsdk_key = sdk-5ec2e7-canary\n");
    if let Err(error) = load_text(Path::new("y.toml"), broken, &Overrides::default()) {
        assert!(!error.to_string().contains("5ec2e7-canary"), "{error}");
    }
});
