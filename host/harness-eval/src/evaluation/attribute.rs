//! Attributes of a target as text, because clauses and buckets compare texts only.

use std::borrow::Cow;
use std::fmt::Write;

use serde_json::Value;

use crate::model::Target;

/// Returns the text of an attribute; empty if the target lacks it.
pub(super) fn text<'a>(target: &'a Target, name: &str) -> Cow<'a, str> {
    match name {
        "" => Cow::Borrowed(""),
        "identifier" => Cow::Borrowed(&target.identifier),
        "name" => Cow::Borrowed(&target.name),
        other => target.attributes.get(other).map_or(Cow::Borrowed(""), value_text),
    }
}

fn value_text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        Value::Bool(true) => Cow::Borrowed("true"),
        Value::Bool(false) => Cow::Borrowed("false"),
        Value::Null => Cow::Borrowed("<nil>"),
        // Shortest digits and never an exponent, which is what `Display` writes.
        Value::Number(number) => Cow::Owned(number.as_f64().unwrap_or_default().to_string()),
        Value::Array(_) => {
            let mut text = String::new();
            write_go(value, &mut text);
            Cow::Owned(text)
        }
        Value::Object(_) => Cow::Owned(value.to_string()),
    }
}

/// Writes a value as Go's `fmt` does, which the Go SDK uses for arrays.
fn write_go(value: &Value, out: &mut String) {
    // Writing to a string cannot fail.
    match value {
        Value::Null => out.push_str("<nil>"),
        Value::Bool(it) => {
            let _ = write!(out, "{it}");
        }
        Value::Number(it) => write_go_number(it.as_f64().unwrap_or_default(), out),
        Value::String(it) => out.push_str(it),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(' ');
                }
                write_go(item, out);
            }
            out.push(']');
        }
        Value::Object(properties) => {
            out.push_str("map[");
            let mut names: Vec<_> = properties.iter().collect();
            names.sort_by_key(|(name, _)| *name);
            for (index, (name, value)) in names.into_iter().enumerate() {
                let _ = write!(out, "{}{name}:", if index > 0 { " " } else { "" });
                write_go(value, out);
            }
            out.push(']');
        }
    }
}

/// Writes the shortest digits, with an exponent of at least two digits below 1e-4 and from 1e+06 on.
fn write_go_number(number: f64, out: &mut String) {
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let _ = if (-4..6).contains(&exponent) || number == 0.0 {
        write!(out, "{number}")
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(out, "{digits}e{sign}{:02}", exponent.unsigned_abs())
    };
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_become_text_as_in_the_relay() {
        for (value, expected) in [
            (json!("a"), "a"),
            (json!(55), "55"),
            (json!(0.5), "0.5"),
            (json!(1_000_000), "1000000"),
            (json!(1e21), "1000000000000000000000"),
            (json!(0.00001), "0.00001"),
            (json!(true), "true"),
            (json!(null), "<nil>"),
            (json!([1, "b", null, true, [2.5]]), "[1 b <nil> true [2.5]]"),
            (
                json!([123_456, 1_000_000, 1_234_567, 0.0001, 0.00001, -0.5, 1e100]),
                "[123456 1e+06 1.234567e+06 0.0001 1e-05 -0.5 1e+100]",
            ),
            (json!([{"b": 1, "a": [2]}]), "[map[a:[2] b:1]]"),
            (json!({"a": 1}), r#"{"a":1}"#),
        ] {
            let target = Target { attributes: [("x".to_owned(), value.clone())].into(), ..Target::unknown("t") };
            assert_eq!(text(&target, "x"), expected, "{value}");
        }
    }

    #[test]
    fn built_in_attributes_win() {
        let attributes = [("name".to_owned(), json!("no")), ("Name".to_owned(), json!("other"))].into();
        let target = Target { identifier: "i".into(), name: "n".into(), anonymous: None, attributes };
        for (name, expected) in [("identifier", "i"), ("name", "n"), ("Name", "other"), ("", ""), ("absent", "")] {
            assert_eq!(text(&target, name), expected, "{name}");
        }
    }
}
