//! The keys of the fake agent, and what requests do to them.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::http::{Request, Response};

/// Largest value, and largest transaction (`kv_max_value_size`, `txn_max_req_len`).
const MAX_VALUE: usize = 512 << 10;
/// Most operations of a transaction.
const MAX_OPERATIONS: usize = 64;

/// The keys. Every change has a higher index than the one before.
#[derive(Default)]
pub(super) struct Store {
    keys: BTreeMap<String, Stored>,
    index: u64,
    writes: Vec<String>,
}

#[derive(Clone)]
struct Stored {
    value: Vec<u8>,
    create_index: u64,
    modify_index: u64,
}

impl Store {
    pub(super) fn wipe(&mut self) {
        self.index += 1;
        self.keys.clear();
    }

    pub(super) fn set(&mut self, key: &str, value: Vec<u8>) {
        self.index += 1;
        let create_index = self.keys.get(key).map_or(self.index, |it| it.create_index);
        self.keys.insert(key.to_owned(), Stored { value, create_index, modify_index: self.index });
    }

    pub(super) fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.keys.get(key).map(|it| it.value.clone())
    }

    pub(super) fn keys(&self, prefix: &str) -> Vec<String> {
        self.keys.keys().filter(|it| it.starts_with(prefix)).cloned().collect()
    }

    pub(super) fn writes(&self) -> Vec<String> {
        self.writes.clone()
    }

    /// `GET /v1/kv/:key`.
    pub(super) fn read(&self, key: &str, request: &Request) -> Response {
        // An index of 0 would make clients wait for nothing.
        let index = self.index.max(1);
        let found: Vec<_> = if request.has("recurse") || request.has("keys") {
            self.keys.iter().filter(|it| it.0.starts_with(key)).collect()
        } else {
            self.keys.get_key_value(key).into_iter().collect()
        };
        if found.is_empty() {
            return Response::text(404, "").at(index);
        }
        if request.has("raw") {
            return Response::bytes(found[0].1.value.clone()).at(index);
        }
        let list: Value = if request.has("keys") {
            found.into_iter().map(|it| json!(it.0)).collect()
        } else {
            found.into_iter().map(|(key, stored)| stored.entry(key)).collect()
        };
        Response::bytes(list.to_string().into_bytes()).at(index)
    }

    /// `PUT /v1/kv/:key`.
    pub(super) fn put(&mut self, key: &str, request: &Request) -> Response {
        if key.is_empty() {
            return Response::text(400, "Missing key name");
        }
        if request.body.len() > MAX_VALUE {
            return too_large(request.body.len(), "kv_max_value_size");
        }
        if let Some(index) = request.parameter("cas") {
            let Ok(index) = index.parse::<u64>() else { return Response::text(400, "Invalid cas index") };
            if self.modify_index(key) != index {
                return Response::bytes(b"false".to_vec());
            }
        }
        self.set(key, request.body.clone());
        self.writes.push(key.to_owned());
        Response::bytes(b"true".to_vec())
    }

    /// `DELETE /v1/kv/:key`.
    pub(super) fn delete(&mut self, key: &str, request: &Request) -> Response {
        let keys = if request.has("recurse") { self.keys(key) } else { vec![key.to_owned()] };
        self.index += 1;
        for key in keys {
            self.keys.remove(&key);
            self.writes.push(format!("-{key}"));
        }
        Response::bytes(b"true".to_vec())
    }

    /// `PUT /v1/txn`: all operations, or none.
    pub(super) fn transact(&mut self, request: &Request) -> Response {
        if request.body.len() > MAX_VALUE {
            return too_large(request.body.len(), "txn_max_req_len");
        }
        let Ok(operations) = serde_json::from_slice::<Vec<Value>>(&request.body) else {
            return Response::text(400, "Failed to parse body: invalid JSON");
        };
        if operations.len() > MAX_OPERATIONS {
            let text = format!("Transaction contains too many operations ({} > {MAX_OPERATIONS})", operations.len());
            return Response::text(413, &text);
        }
        let before = (self.keys.clone(), self.writes.len());
        let mut results = Vec::new();
        for (index, operation) in operations.iter().enumerate() {
            match self.execute(&operation["KV"]) {
                Ok(result) => results.extend(result),
                Err(problem) => {
                    self.keys = before.0;
                    self.writes.truncate(before.1);
                    let errors = json!([{"OpIndex": index, "What": problem}]);
                    return Response::text(409, &json!({"Results": null, "Errors": errors}).to_string());
                }
            }
        }
        Response::bytes(json!({"Results": results, "Errors": null}).to_string().into_bytes())
    }

    fn execute(&mut self, operation: &Value) -> Result<Option<Value>, String> {
        let key = operation["Key"].as_str().filter(|it| !it.is_empty()).ok_or("invalid key")?;
        let value = STANDARD.decode(operation["Value"].as_str().unwrap_or_default()).map_err(|it| it.to_string())?;
        if value.len() > MAX_VALUE {
            return Err(format!("Value for key {key:?} is too large ({} > {MAX_VALUE} bytes)", value.len()));
        }
        match operation["Verb"].as_str().unwrap_or_default() {
            "set" => self.set(key, value),
            "cas" if Some(self.modify_index(key)) != operation["Index"].as_u64() => {
                return Err(format!("failed to set key {key:?}, index is stale"));
            }
            "cas" => self.set(key, value),
            "check-not-exists" if self.keys.contains_key(key) => return Err(format!("key {key:?} exists")),
            "check-not-exists" => return Ok(None),
            "get" => {
                let stored = self.keys.get(key).ok_or_else(|| format!("key {key:?} doesn't exist"))?;
                return Ok(Some(json!({"KV": stored.entry(key)})));
            }
            "delete" => {
                self.index += 1;
                self.keys.remove(key);
                self.writes.push(format!("-{key}"));
                return Ok(None);
            }
            verb => return Err(format!("unknown KV verb {verb:?}")),
        }
        self.writes.push(key.to_owned());
        let mut entry = self.keys[key].entry(key);
        entry["Value"] = Value::Null;
        Ok(Some(json!({"KV": entry})))
    }

    /// 0 for a key that does not exist.
    fn modify_index(&self, key: &str) -> u64 {
        self.keys.get(key).map_or(0, |it| it.modify_index)
    }
}

impl Stored {
    fn entry(&self, key: &str) -> Value {
        let value = if self.value.is_empty() { Value::Null } else { json!(STANDARD.encode(&self.value)) };
        json!({
            "LockIndex": 0, "Key": key, "Flags": 0, "Value": value, "CreateIndex": self.create_index,
            "ModifyIndex": self.modify_index,
        })
    }
}

fn too_large(size: usize, setting: &str) -> Response {
    let text = format!(
        "Request body({size} bytes) too large, max size: {MAX_VALUE} bytes. See \
         https://developer.hashicorp.com/docs/agent/config/config-files#{setting}."
    );
    Response::text(413, &text)
}
