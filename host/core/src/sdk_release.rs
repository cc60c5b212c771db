//! Names and versions of SDKs, read from what a caller says about itself without keeping any of its text.

use std::fmt;

/// Numbers of a version that are kept.
const NUMBERS: usize = 3;

/// An SDK with its version. It consists of a name from a fixed list and of numbers, so it contains no text of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SdkRelease {
    /// Name of the SDK.
    pub name: &'static str,
    version: [u16; NUMBERS],
}

impl SdkRelease {
    /// Reads the name and the version at the beginning of `text`, such as `GoClient/7.1.0 …` or `NodeJS 1.8.12 Server`;
    /// `None` for a name that `names` does not contain, and for versions that are not numbers. Labels of pre-releases are left
    /// out.
    #[must_use]
    pub fn parse(text: &str, names: &[&'static str]) -> Option<Self> {
        let (name, rest) = text.split_once(['/', ' '])?;
        let name = names.iter().find(|it| **it == name)?;
        let version = rest.split(|it: char| !it.is_ascii_digit() && it != '.').next()?;
        let mut numbers = version.split('.');
        let mut version = [0; NUMBERS];
        version[0] = numbers.next()?.parse().ok()?;
        for place in &mut version[1..] {
            match numbers.next() {
                Some(number) => *place = number.parse().ok()?,
                None => break,
            }
        }
        Some(Self { name, version })
    }

    /// Returns the version, as `1.2.3`.
    #[must_use]
    pub fn version(&self) -> impl fmt::Display {
        let [major, minor, patch] = self.version;
        fmt::from_fn(move |formatter| write!(formatter, "{major}.{minor}.{patch}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &[&str] = &["Go", "GoClient"];

    fn parsed(text: &str) -> Option<String> {
        SdkRelease::parse(text, NAMES).map(|it| format!("{} {}", it.name, it.version()))
    }

    #[test]
    fn v044_only_known_names_and_numbers_are_kept() {
        for (text, expected) in [
            ("GoClient/7.1.0", Some("GoClient 7.1.0")),
            ("GoClient/7.1.0-alpha.sdk-1234 LDRelay/8.10.1", Some("GoClient 7.1.0")),
            ("Go 0.1 Server", Some("Go 0.1.0")),
            ("GoClient/7", Some("GoClient 7.0.0")),
            ("GoClient/7.1.2.3", Some("GoClient 7.1.2")),
            ("GoClient/", None),
            ("GoClient", None),
            ("GoClient/secret", None),
            ("GoClient/1..2", None),
            ("GoClient/1.99999999", None),
            ("Secret/1.0.0", None),
            ("goclient/1.0.0", None),
            ("", None),
        ] {
            assert_eq!(parsed(text).as_deref(), expected, "{text}");
        }
    }
}
