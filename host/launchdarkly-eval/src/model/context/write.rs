//! Writing contexts in the new format.

use super::super::value::{Value, write_text};
use super::{Context, Part};

pub(super) fn context(context: &Context, out: &mut Vec<u8>) {
    match context.parts() {
        [part] => {
            out.extend_from_slice(br#"{"kind":"#);
            part.kind_value().write(out);
            out.push(b',');
            properties(part, out);
            out.push(b'}');
        }
        parts => {
            out.extend_from_slice(br#"{"kind":"multi""#);
            for part in parts {
                out.push(b',');
                part.kind_value().write(out);
                out.extend_from_slice(b":{");
                properties(part, out);
                out.push(b'}');
            }
            out.push(b'}');
        }
    }
}

/// Everything but the kind.
fn properties(part: &Part, out: &mut Vec<u8>) {
    out.extend_from_slice(br#""key":"#);
    part.key.write(out);
    if let Some(name) = &part.name {
        out.extend_from_slice(br#","name":"#);
        name.write(out);
    }
    if part.anonymous == Value::Boolean(true) {
        out.extend_from_slice(br#","anonymous":true"#);
    }
    for (name, value) in &part.attributes {
        out.push(b',');
        write_text(name, out);
        out.push(b':');
        value.write(out);
    }
    if !part.private.is_empty() {
        out.extend_from_slice(br#","_meta":{"privateAttributes":["#);
        for (index, name) in part.private.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write_text(name, out);
        }
        out.extend_from_slice(b"]}");
    }
}
