//! Masks of values: what remains is the form, on which most failures depend.

use serde_json::{Map, Value};

/// Returns a text of the same length in bytes, in which letters and digits are replaced. What separates them remains.
pub(super) fn text(text: &str) -> String {
    let mask = |it: char| match (it, it.len_utf8()) {
        ('a'..='z', _) => 'x',
        ('A'..='Z', _) => 'X',
        ('0'..='9', _) => '0',
        (_, 1) => it,
        (_, 2) => '\u{e9}',
        (_, 3) => '\u{3042}',
        _ => '\u{1d11e}',
    };
    text.chars().map(mask).collect()
}

/// Returns a value of the same form: names of properties, lengths of lists and texts, and kinds of values remain.
pub(super) fn value(value: &Value) -> Value {
    match value {
        Value::Null | Value::Bool(_) => value.clone(),
        Value::Number(number) => masked_number(&number.to_string()),
        Value::String(it) => text(it).into(),
        Value::Array(items) => items.iter().map(self::value).collect(),
        Value::Object(object) => self::object(object).into(),
    }
}

/// Like [`value`], for an object.
pub(super) fn object(object: &Map<String, Value>) -> Map<String, Value> {
    object.iter().map(|(name, it)| (name.clone(), value(it))).collect()
}

/// Returns a number with as many digits.
fn masked_number(number: &str) -> Value {
    let ones: String = number.chars().map(|it| if it.is_ascii_digit() { '1' } else { it }).collect();
    // `e+111` may be too large.
    serde_json::from_str(&ones).unwrap_or_else(|_| Value::from(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_form_remains() {
        let before =
            json!({"email": "Ann.Example+7@example.org", "age": 42, "score": -1.25, "ok": true, "tags": ["ä", null]});
        let after = json!({"email": "Xxx.Xxxxxxx+0@xxxxxxx.xxx", "age": 11, "score": -1.11, "ok": true, "tags": ["\u{e9}", null]});
        assert_eq!(value(&before), after);
    }

    proptest! {
        #[test]
        fn a_text_keeps_its_length_and_loses_its_letters(it in ".{0,60}") {
            let masked = text(&it);
            prop_assert_eq!(masked.len(), it.len());
            let is_masked = |it: char| !it.is_alphanumeric() || ['x', 'X', '0', '\u{e9}', '\u{3042}'].contains(&it);
            prop_assert!(masked.chars().all(is_masked));
            prop_assert_eq!(text(&masked), masked);
        }
    }
}
