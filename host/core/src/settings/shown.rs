//! Display of values in error messages and lists, without possible secrets.

use super::Kind;

/// Longer texts are not repeated: keys and tokens are longer than typical typing errors.
const MAX_SHOWN: usize = 20;

/// Describes an invalid text, as the end of a sentence about the expected format. Texts that may be secrets are not
/// shown: a key in the place of another setting is a common mistake.
pub(super) fn instead(kind: Kind, text: &str) -> String {
    let is_plain = |it: char| it.is_ascii_alphanumeric() || " .:/_+%[]".contains(it);
    let is_short = text.chars().count() <= MAX_SHOWN;
    let has_credentials = text.contains('@');
    if kind == Kind::Secret || !is_short || has_credentials || !text.chars().all(is_plain) {
        return String::new();
    }
    format!(", not `{text}`")
}

/// Replaces a user name and a password before the host of an address with `***`.
pub(super) fn without_credentials(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://***@{host}{path}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cannot_be_a_secret_is_shown() {
        for (kind, text, expected) in [
            (Kind::Address, "nowhere", ", not `nowhere`"),
            (Kind::Duration, "1.5 h", ", not `1.5 h`"),
            (Kind::Duration, "sdk-0123", ""),
            (Kind::Bool, "0123456789abcdef01234567", ""),
            (Kind::Url, "user:pass@host", ""),
            (Kind::Secret, "x", ""),
            (Kind::Count, "a\nb", ""),
        ] {
            assert_eq!(instead(kind, text), expected, "{text}");
        }
    }

    #[test]
    fn credentials_in_addresses_are_hidden() {
        for (text, expected) in [
            ("https://user:p@ss@host:1/a@b", "https://***@host:1/a@b"),
            ("https://token@host", "https://***@host"),
            ("https://host/a@b", "https://host/a@b"),
            ("plain", "plain"),
        ] {
            assert_eq!(without_credentials(text), expected);
        }
    }
}
