//! The types of ld-relay's settings, with the error texts of its configuration library (U131 to U135).

use std::time::Duration;

use url::Url;

use super::table::Form;

/// A value in the form of its setting.
#[derive(Clone, PartialEq)]
pub(super) enum Value {
    Bool(bool),
    Number(u64),
    /// Nanoseconds; Go's durations have a sign.
    Duration(i64),
    /// Any text, a URL or a path. It may be a secret.
    Text(String),
    /// Texts as written, which are not trimmed.
    List(Vec<String>),
    /// A word of a fixed set, in lower case.
    Word(&'static str),
}

/// Values may be secrets.
impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Value")
    }
}

/// The source of a text, where the forms differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    File,
    Variable,
}

const LEVELS: &[&str] = &["debug", "info", "warn", "error", "none"];
const TLS_VERSIONS: &[&str] = &["1.0", "1.1", "1.2", "1.3"];
const LOG_FORMATS: &[&str] = &["text", "json"];

/// Reads a value. `Ok(None)` is an empty text that unsets the setting.
///
/// # Errors
/// The text of ld-relay for a value that it refuses.
pub(super) fn read(form: Form, text: &str, origin: Origin) -> Result<Option<Value>, String> {
    let is_unset = text.is_empty() && !matches!(form, Form::Bool | Form::Text);
    if is_unset {
        return Ok(None);
    }
    match form {
        Form::Bool => boolean(text, origin).map(Value::Bool),
        Form::Positive => integer(text).and_then(|it| {
            u64::try_from(it).ok().filter(|it| *it > 0).map(Value::Number).ok_or_else(|| NOT_POSITIVE.to_owned())
        }),
        Form::Natural => integer(text)
            .and_then(|it| u64::try_from(it).map(Value::Number).map_err(|_| "value must not be negative".to_owned())),
        Form::Duration => duration(text).map(Value::Duration),
        Form::Url => url(text).map(Value::Text),
        Form::Text => Ok(Value::Text(text.to_owned())),
        Form::List => Ok(Value::List(text.split(',').map(str::to_owned).collect())),
        Form::Level => word(LEVELS, text, "log level"),
        Form::TlsVersion => word(TLS_VERSIONS, text, "TLS version"),
        Form::LogFormat => word(LOG_FORMATS, text, "log format"),
        Form::Size => size(text).map(Value::Number),
    }
    .map(Some)
}

const NOT_POSITIVE: &str = "value must be greater than zero";

fn boolean(text: &str, origin: Origin) -> Result<bool, String> {
    let lower = text.to_ascii_lowercase();
    match (lower.as_str(), origin) {
        ("true" | "yes" | "1", _) | ("on", Origin::File) => Ok(true),
        ("false" | "no" | "0", _) | ("off", Origin::File) => Ok(false),
        (_, Origin::File) => Err(format!("failed to parse bool `{lower}`")),
        (_, Origin::Variable) => Err("not a valid boolean value (must be true/false, yes/no, or 0/1)".to_owned()),
    }
}

fn integer(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| "not a valid integer".to_owned())
}

fn word(words: &'static [&'static str], text: &str, what: &str) -> Result<Value, String> {
    let found = words.iter().find(|it| it.eq_ignore_ascii_case(text));
    found.map(|it| Value::Word(it)).ok_or_else(|| format!("\"{text}\" is not a valid {what}"))
}

fn url(text: &str) -> Result<String, String> {
    match Url::parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(url::ParseError::RelativeUrlWithoutBase) => Err("must be an absolute URL/URI".to_owned()),
        Err(_) => Err("not a valid URL/URI".to_owned()),
    }
}

/// Reads a duration of Go: `1m30s`, `1.5h`, `-1s`; `0` needs no unit.
fn duration(text: &str) -> Result<i64, String> {
    parse_duration(text).ok_or_else(|| r#"not a valid duration (must use format "1ms", "1s", "1m", etc.)"#.to_owned())
}

fn parse_duration(text: &str) -> Option<i64> {
    let (is_negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let (number, after) = split_number(rest)?;
        let end = after.find(|it: char| it.is_ascii_digit() || it == '.').unwrap_or(after.len());
        let unit: i128 = match &after[..end] {
            "ns" => 1,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        total = total.checked_add(scaled(number, unit)?)?;
        rest = &after[end..];
    }
    i64::try_from(if is_negative { -total } else { total }).ok()
}

/// Splits a decimal number with at least one digit from what follows.
fn split_number(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|it: char| !it.is_ascii_digit() && it != '.').unwrap_or(text.len());
    let number = &text[..end];
    let has_digits = number.bytes().any(|it| it.is_ascii_digit());
    (has_digits && number.matches('.').count() <= 1).then_some((number, &text[end..]))
}

/// Multiplies a decimal number, such as `1.5`, by a unit. Fractions below one are cut off.
fn scaled(number: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // More digits than a nanosecond of an hour has do not matter.
    let fraction = &fraction[..fraction.len().min(18)];
    let numerator: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let denominator = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    whole.checked_mul(unit)?.checked_add(numerator * unit / denominator)
}

/// Reads a size such as `50KB` or `1MiB512KiB`. Both kinds of units are powers of 1024, as in the reference (U135).
fn size(text: &str) -> Result<u64, String> {
    parse_size(text).ok_or_else(|| "not a valid base-2 byte size".to_owned())
}

fn parse_size(text: &str) -> Option<u64> {
    // The units of one text are of one kind, as in the reference.
    ["iB", "B"].iter().find_map(|suffix| size_in(text, suffix))
}

fn size_in(text: &str, suffix: &str) -> Option<u64> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut total: i128 = 0;
    if rest == "0" {
        return Some(0);
    }
    while !rest.is_empty() {
        let (number, after) = split_number(rest)?;
        let end = after.find(|it: char| it.is_ascii_digit() || it == '.').unwrap_or(after.len());
        let exponent = match &after[..end] {
            "B" => 0,
            unit => 1 + "KMGTPE".find(unit.strip_suffix(suffix).filter(|it| it.len() == 1)?)?,
        };
        total = total.checked_add(scaled(number, 1_i128 << (10 * exponent))?)?;
        rest = &after[end..];
    }
    u64::try_from(total).ok().filter(|_| !text.is_empty())
}

/// Converts nanoseconds to a duration; `None` for zero and less.
pub(super) fn positive(nanoseconds: i64) -> Option<Duration> {
    u64::try_from(nanoseconds).ok().filter(|it| *it > 0).map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u132_durations_are_those_of_go() {
        for (text, nanoseconds) in [
            ("1m30s", Some(90_000_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            ("-1s", Some(-1_000_000_000)),
            ("0", Some(0)),
            (".5s", Some(500_000_000)),
            ("1.s", Some(1_000_000_000)),
            ("100us", Some(100_000)),
            ("3\u{b5}s", Some(3_000)),
            ("2562047h", Some(9_223_369_200_000_000_000)),
            ("2562048h", None),
            ("15", None),
            ("", None),
            ("s", None),
            (".", None),
            ("1.1.1s", None),
            ("1d", None),
            ("1 s", None),
            ("1s ", None),
            ("--1s", None),
        ] {
            assert_eq!(parse_duration(text), nanoseconds, "{text}");
        }
        let error = read(Form::Duration, "15", Origin::File).unwrap_err();
        assert_eq!(error, r#"not a valid duration (must use format "1ms", "1s", "1m", etc.)"#);
    }

    #[test]
    fn u135_sizes_are_powers_of_1024() {
        for (text, size) in [
            ("50KB", Some(51_200)),
            ("50KiB", Some(51_200)),
            ("1.5MiB", Some(1_572_864)),
            ("1MiB512KiB", Some(1_572_864)),
            ("100B", Some(100)),
            ("0", Some(0)),
            ("0B", Some(0)),
            ("8EiB", Some(1 << 63)),
            ("16EiB", None),
            ("1MiB1KB", None),
            ("50", None),
            ("50K", None),
            ("kb", None),
            ("", None),
        ] {
            assert_eq!(parse_size(text), size, "{text}");
        }
    }

    #[test]
    fn u131_to_u134_values_and_errors_follow_the_reference() {
        use Origin::{File, Variable};
        for (form, text, origin, expected) in [
            (Form::Bool, "YES", File, Ok(Some(Value::Bool(true)))),
            (Form::Bool, "on", File, Ok(Some(Value::Bool(true)))),
            (Form::Bool, "off", File, Ok(Some(Value::Bool(false)))),
            (Form::Bool, "Maybe", File, Err("failed to parse bool `maybe`")),
            (Form::Bool, "", File, Err("failed to parse bool ``")),
            (Form::Bool, "0", Variable, Ok(Some(Value::Bool(false)))),
            (Form::Bool, "on", Variable, Err("not a valid boolean value (must be true/false, yes/no, or 0/1)")),
            (Form::Positive, "8030", File, Ok(Some(Value::Number(8030)))),
            (Form::Positive, "+1", File, Ok(Some(Value::Number(1)))),
            (Form::Positive, "0", Variable, Err("value must be greater than zero")),
            (Form::Positive, "-1", Variable, Err("value must be greater than zero")),
            (Form::Positive, " 1", Variable, Err("not a valid integer")),
            (Form::Positive, "", Variable, Ok(None)),
            (Form::Natural, "0", Variable, Ok(Some(Value::Number(0)))),
            (Form::Url, "http://h/p", File, Ok(Some(Value::Text("http://h/p".to_owned())))),
            (Form::Url, "/p", File, Err("must be an absolute URL/URI")),
            (Form::Url, "http://[", File, Err("not a valid URL/URI")),
            (Form::Level, "WARN", File, Ok(Some(Value::Word("warn")))),
            (Form::Level, "loud", File, Err("\"loud\" is not a valid log level")),
            (Form::TlsVersion, "1.4", File, Err("\"1.4\" is not a valid TLS version")),
            (Form::List, "a, b,,", File, Ok(Some(Value::List(["a", " b", "", ""].map(str::to_owned).to_vec())))),
            (Form::Text, "", File, Ok(Some(Value::Text(String::new())))),
        ] {
            assert_eq!(read(form, text, origin), expected.map_err(str::to_owned), "{form:?} {text}");
        }
    }
}
