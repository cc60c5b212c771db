//! Packs operations into transactions within Consul's limits, in their order.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Serialize;

/// Most operations of a transaction.
const MAX_OPERATIONS: usize = 64;
/// Largest transaction in bytes. Consul accepts 512 KiB by default.
const MAX_BODY: usize = 500 << 10;

/// A write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operation {
    Set { key: String, value: Bytes },
    Delete { key: String },
}

/// A request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The JSON of a transaction.
    Transaction(Vec<u8>),
    /// A value that does not fit into a transaction, where it is encoded as base64.
    Put { key: String, value: Bytes },
}

#[derive(Serialize)]
struct Wire<'a> {
    #[serde(rename = "KV")]
    kv: WireOperation<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct WireOperation<'a> {
    verb: &'static str,
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
}

/// Returns the requests that execute the operations in their order.
pub(super) fn steps(operations: Vec<Operation>) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut open = Open::default();
    for operation in operations {
        let text = operation.json();
        if text.len() + 2 > MAX_BODY
            && let Operation::Set { key, value } = operation
        {
            open.close(&mut steps);
            steps.push(Step::Put { key, value });
            continue;
        }
        if open.count == MAX_OPERATIONS || open.body.len() + text.len() + 2 > MAX_BODY {
            open.close(&mut steps);
        }
        open.push(&text);
    }
    open.close(&mut steps);
    steps
}

impl Operation {
    fn json(&self) -> Vec<u8> {
        let kv = match self {
            Self::Set { key, value } => WireOperation { verb: "set", key, value: Some(STANDARD.encode(value)) },
            Self::Delete { key } => WireOperation { verb: "delete", key, value: None },
        };
        // Texts can always be written as JSON.
        serde_json::to_vec(&Wire { kv }).unwrap_or_default()
    }
}

/// The transaction that operations are added to.
#[derive(Default)]
struct Open {
    body: Vec<u8>,
    count: usize,
}

impl Open {
    fn push(&mut self, text: &[u8]) {
        self.body.push(if self.count == 0 { b'[' } else { b',' });
        self.body.extend_from_slice(text);
        self.count += 1;
    }

    fn close(&mut self, steps: &mut Vec<Step>) {
        if self.count > 0 {
            let mut body = std::mem::take(self).body;
            body.push(b']');
            steps.push(Step::Transaction(body));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(key: &str, size: usize) -> Operation {
        Operation::Set { key: key.to_owned(), value: vec![b'x'; size].into() }
    }

    /// The keys of each request; those of single writes with a star.
    fn keys(operations: Vec<Operation>) -> Vec<Vec<String>> {
        let of_transaction = |body: Vec<u8>| {
            assert!(body.len() <= 512 << 10, "{}", body.len());
            let all: Vec<serde_json::Value> = serde_json::from_slice(&body).expect("JSON");
            assert!(all.len() <= 64);
            all.iter().map(|it| it["KV"]["Key"].as_str().expect("a key").to_owned()).collect()
        };
        let of = |step| match step {
            Step::Transaction(body) => of_transaction(body),
            Step::Put { key, .. } => vec![format!("{key}*")],
        };
        steps(operations).into_iter().map(of).collect()
    }

    #[test]
    fn operations_are_written() {
        let operations = vec![
            Operation::Set { key: "p/a\"".to_owned(), value: Bytes::from_static(b"one") },
            Operation::Set { key: "p/m".to_owned(), value: Bytes::new() },
            Operation::Delete { key: "p/b".to_owned() },
        ];
        let text = concat!(
            r#"[{"KV":{"Verb":"set","Key":"p/a\"","Value":"b25l"}},{"KV":{"Verb":"set","Key":"p/m","Value":""}},"#,
            r#"{"KV":{"Verb":"delete","Key":"p/b"}}]"#
        );
        assert_eq!(steps(operations), [Step::Transaction(text.as_bytes().to_vec())]);
        assert_eq!(steps(Vec::new()), []);
    }

    #[test]
    fn number_and_size_are_limited_and_the_order_stays() {
        let many: Vec<_> = (0..130).map(|number| set(&number.to_string(), 1)).collect();
        let packed = keys(many);
        assert_eq!(packed.iter().map(Vec::len).collect::<Vec<_>>(), [64, 64, 2]);
        let order: Vec<_> = (0..130).map(|number| number.to_string()).collect();
        assert_eq!(packed.concat(), order);
        // 300 KB are 400 KB in base64; half a megabyte does not fit.
        let large = vec![set("a", 300_000), set("b", 300_000), set("c", 10), set("d", 512 << 10), set("e", 10)];
        assert_eq!(keys(large), [vec!["a"], vec!["b", "c"], vec!["d*"], vec!["e"]]);
    }
}
