//! Semantic versions, as the `semVer` operators understand them.

use std::borrow::Cow;
use std::cmp::Ordering;

/// A version in which minor and patch may be missing. Build metadata is checked and dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version<'a> {
    /// Digits without leading zeros, so that a longer one is a larger one.
    numbers: [Cow<'a, str>; 3],
    /// Dot-separated; empty for a release.
    prerelease: Cow<'a, str>,
}

impl<'a> Version<'a> {
    /// Reads `major[.minor[.patch]][-prerelease][+build]`.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (text, build) = split_off(text, '+');
        let (core, prerelease) = split_off(text, '-');
        if !build.is_none_or(|build| build.split('.').all(is_identifier)) {
            return None;
        }
        if !prerelease.is_none_or(|prerelease| prerelease.split('.').all(is_prerelease_identifier)) {
            return None;
        }
        let mut parts = core.split('.');
        let major = parts.next().filter(|it| is_number(it))?;
        let minor = parts.next().unwrap_or("0");
        let patch = parts.next().unwrap_or("0");
        if !is_number(minor) || !is_number(patch) || parts.next().is_some() {
            return None;
        }
        Some(Self {
            numbers: [major, minor, patch].map(Cow::Borrowed),
            prerelease: Cow::Borrowed(prerelease.unwrap_or_default()),
        })
    }

    /// The same version, owning its text.
    pub(super) fn into_owned(self) -> Version<'static> {
        Version {
            numbers: self.numbers.map(|number| Cow::Owned(number.into_owned())),
            prerelease: Cow::Owned(self.prerelease.into_owned()),
        }
    }

    /// Precedence, which ignores build metadata.
    pub(super) fn precedence(&self, other: &Version<'_>) -> Ordering {
        let numbers = self.numbers.iter().zip(&other.numbers).map(|(a, b)| compare_numbers(a, b));
        numbers.fold(Ordering::Equal, Ordering::then).then_with(|| match (&*self.prerelease, &*other.prerelease) {
            ("", "") => Ordering::Equal,
            ("", _) => Ordering::Greater,
            (_, "") => Ordering::Less,
            (a, b) => compare_prereleases(a, b),
        })
    }
}

fn split_off(text: &str, at: char) -> (&str, Option<&str>) {
    match text.split_once(at) {
        Some((before, after)) => (before, Some(after)),
        None => (text, None),
    }
}

fn is_number(text: &str) -> bool {
    is_digits(text) && (text.len() == 1 || !text.starts_with('0'))
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn is_prerelease_identifier(text: &str) -> bool {
    is_identifier(text) && (!is_digits(text) || is_number(text))
}

/// Compares numbers of any length by value.
fn compare_numbers(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

fn compare_prereleases(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        let order = match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(a), Some(b)) => match (is_digits(a), is_digits(b)) {
                (true, true) => compare_numbers(a, b),
                (true, false) => Ordering::Less,
                (false, true) => Ordering::Greater,
                (false, false) => a.cmp(b),
            },
        };
        if order.is_ne() {
            return order;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version<'_> {
        Version::parse(text).expect(text)
    }

    #[test]
    fn versions_in_ascending_order() {
        let ascending = [
            "0.0.1-a",
            "0.0.1",
            "0.9",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1",
            "1.0.1",
            "2-rc",
            "2.0.0-rc.1",
            "2.0.0",
            "2.1-rc+b",
            "2.1.3",
            "10.0.0",
            "99999999999999999998.0.0",
            "99999999999999999999.0.0",
        ];
        for (index, text) in ascending.iter().enumerate() {
            for (other_index, other) in ascending.iter().enumerate() {
                let order = version(text).precedence(&version(other).into_owned());
                assert_eq!(order, index.cmp(&other_index), "{text} {other}");
            }
        }
    }

    #[test]
    fn missing_numbers_are_zero_and_builds_do_not_count() {
        for (a, b) in [("2", "2.0.0"), ("2.1", "2.1.0"), ("2.0.0+a", "2+b.01"), ("2-rc", "2.0.0-rc+x-y")] {
            assert_eq!(version(a).precedence(&version(b)), Ordering::Equal, "{a} {b}");
        }
    }

    #[test]
    fn other_texts_are_no_versions() {
        for text in [
            "",
            "v1",
            "1.",
            "1..2",
            "1.2.3.4",
            "01",
            "1.02",
            "-1",
            "1 ",
            " 1",
            "1.x",
            "2.1.3-",
            "2.1.3+",
            "2.1.3-01",
            "2.1.3-rc..1",
            "2.0.0-rc_1",
            "2.1.3-é",
            "٢.0.0",
            "+b",
            "2.0.0+a+b",
        ] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn precedence_is_an_order(a in "[01a]{1,2}(\\.[0-2]){0,2}(-[0-2a.]{1,4})?", b in "[01a]{1,2}(\\.[0-2]){0,2}(-[0-2a.]{1,4})?") {
            if let (Some(a), Some(b)) = (Version::parse(&a), Version::parse(&b)) {
                proptest::prop_assert_eq!(a.precedence(&b), b.precedence(&a).reverse());
            }
        }
    }
}
