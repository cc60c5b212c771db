//! The JSON Schema of the configuration file.

use super::KEYS;

/// Returns the JSON Schema of `yardarm.toml` as a text.
#[must_use]
pub fn schema() -> String {
    let mut schema = yardarm_core::settings::schema(KEYS);
    schema["title"] = "yardarm.toml".into();
    schema["description"] = "Configuration of Yardarm, a feature-flag relay gateway.".into();
    format!("{schema:#}\n")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use regex::Regex;
    use serde_json::{Value, json};
    use yardarm_core::settings::{Reader, Values};

    use super::super::{Config, Overrides, load_text};
    use super::*;

    fn parsed() -> Value {
        serde_json::from_str(&schema()).unwrap()
    }

    /// Returns the paths below `path` at which a value does not match a schema. Knows the keywords of ours only.
    fn mismatches(schema: &Value, value: &Value, path: &str) -> Vec<String> {
        let mut found = Vec::new();
        let fields = schema.as_object().expect("a schema");
        for (keyword, expected) in fields {
            let is_met = match keyword.as_str() {
                "type" => is_type(expected, value),
                "enum" => expected.as_array().unwrap().contains(value),
                "pattern" => {
                    value.as_str().is_none_or(|it| Regex::new(expected.as_str().unwrap()).unwrap().is_match(it))
                }
                "minimum" => value.as_u64().is_none_or(|it| it >= expected.as_u64().unwrap()),
                "maximum" => value.as_u64().is_none_or(|it| it <= expected.as_u64().unwrap()),
                "required" => expected.as_array().unwrap().iter().all(|it| !value[it.as_str().unwrap()].is_null()),
                "oneOf" => {
                    let choices = expected.as_array().unwrap().iter();
                    choices.filter(|it| mismatches(it, value, path).is_empty()).count() == 1
                }
                "items" => {
                    for item in value.as_array().into_iter().flatten() {
                        found.extend(mismatches(expected, item, &format!("{path}[]")));
                    }
                    true
                }
                "properties" => {
                    for (name, value) in value.as_object().into_iter().flatten() {
                        match expected.get(name) {
                            Some(schema) => found.extend(mismatches(schema, value, &format!("{path}.{name}"))),
                            None => found.push(format!("{path}.{name}")),
                        }
                    }
                    true
                }
                "additionalProperties" => expected == &json!(false),
                "$schema" | "title" | "description" | "default" | "format" => true,
                unknown => panic!("{unknown}"),
            };
            if !is_met {
                found.push(path.to_owned());
            }
        }
        found
    }

    fn is_type(expected: &Value, value: &Value) -> bool {
        match expected.as_str() {
            None => expected.as_array().unwrap().iter().any(|it| is_type(it, value)),
            Some("string") => value.is_string(),
            Some("boolean") => value.is_boolean(),
            Some("integer") => value.is_u64() || value.is_i64(),
            Some("array") => value.is_array(),
            Some("object") => value.is_object(),
            Some(unknown) => panic!("{unknown}"),
        }
    }

    /// Returns the schema of a key.
    fn of_key<'a>(schema: &'a Value, path: &str) -> &'a Value {
        path.split('.').fold(schema, |schema, name| match name.strip_suffix("[]") {
            Some(list) => &schema["properties"][list]["items"],
            None => &schema["properties"][name],
        })
    }

    #[test]
    fn every_key_has_a_schema_that_its_default_matches() {
        let schema = parsed();
        for key in KEYS {
            let found = of_key(&schema, key.path);
            assert!(found["description"].as_str().is_some_and(|it| it.starts_with(key.about)), "{}", key.path);
            assert_eq!(found["default"].is_null(), key.default.is_empty(), "{}", key.path);
            if let Some(default) = found.get("default") {
                assert!(mismatches(found, default, "").is_empty(), "{}: {found}", key.path);
            }
        }
    }

    /// Returns the TOML blocks of the README and the files in `examples/configurations/`, with their names.
    fn examples() -> Vec<(String, String)> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
        let blocks = readme.split("```toml\n").skip(1).filter_map(|it| it.split("```").next());
        let mut examples: Vec<_> = blocks.map(|it| ("README.md".to_owned(), it.to_owned())).collect();
        assert!(examples.len() >= 4, "{}", examples.len());
        for entry in std::fs::read_dir(root.join("examples/configurations")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|it| it == "toml") {
                examples.push((path.display().to_string(), std::fs::read_to_string(path).unwrap()));
            }
        }
        examples
    }

    #[test]
    fn examples_can_be_read_and_match_the_schema() {
        let schema = parsed();
        let secrets = tempfile::TempDir::new().unwrap();
        let secret = secrets.path().join("secret");
        std::fs::write(&secret, "key-of-a-file").unwrap();
        let variable = Regex::new(r#"env = "(\w+)""#).unwrap();
        let file = Regex::new(r#"file = "/run/[^"]*""#).unwrap();
        for (name, text) in examples() {
            let document = serde_json::to_value(toml::from_str::<toml::Table>(&text).unwrap()).unwrap();
            assert_eq!(mismatches(&schema, &document, ""), Vec::<String>::new(), "{name}");
            let variables = variable.captures_iter(&text).map(|it| (it[1].to_owned(), format!("key-of-{}", &it[1])));
            let overrides = Overrides { variables: variables.collect(), ..Overrides::default() };
            let text = file.replace_all(&text, format!("file = {secret:?}")).into_owned();
            let loaded = load_text(Path::new(&name), text, &overrides);
            assert!(loaded.is_ok(), "{name}: {}", loaded.unwrap_err());
        }
    }

    #[test]
    fn the_schema_and_the_reader_accept_the_same_values() {
        let schema = parsed();
        for (key, is_valid, values) in [
            ("shutdown.drain", true, &[json!("5s"), json!("1m 30s"), json!("250ms"), json!("1.5s"), json!("0")][..]),
            (
                "shutdown.drain",
                false,
                &[json!("5"), json!("5 parsecs"), json!("s"), json!(5), json!("-1s"), json!([1])],
            ),
            ("server.max_body", true, &[json!(1), json!("64KiB"), json!("5 mb"), json!("17"), json!("1G")]),
            (
                "server.max_body",
                false,
                &[json!(0), json!("0"), json!("1.5MiB"), json!("1TiB"), json!("KiB"), json!(true)],
            ),
            ("server.max_headers", true, &[json!(16), json!(20_000)]),
            ("server.max_headers", false, &[json!(15), json!(20_001), json!("many")]),
            ("server.listen", true, &[json!("0.0.0.0:80"), json!("[::1]:1"), json!("[fe80::1%2]:1")]),
            ("server.listen", false, &[json!("localhost:80"), json!("127.0.0.1"), json!("::1:80"), json!(80)]),
            ("launchdarkly.stream_uri", true, &[json!("http://host"), json!("https://[::1]:1/a@b/")]),
            (
                "launchdarkly.stream_uri",
                false,
                &[json!("ftp://host"), json!("https://u@host"), json!("https://h?q"), json!("host")],
            ),
            ("launchdarkly.client_streams", true, &[json!("ping"), json!("evaluated")]),
            ("launchdarkly.client_streams", false, &[json!("PING"), json!("pong")]),
            ("server.tls.min_version", false, &[json!("1.1")]),
            ("server.compression", true, &[json!(true), json!(false)]),
            ("server.compression", false, &[json!("yes"), json!(2), json!({})]),
            ("admin.allowed_hosts", true, &[json!([]), json!(["a.b"]), json!("a, b")]),
            ("admin.allowed_hosts", false, &[json!([1]), json!(1)]),
            ("launchdarkly.redis.url", true, &[json!("redis://host"), json!({"env": "URL"})]),
            ("launchdarkly.redis.url", false, &[json!({"env": "URL", "file": "x"}), json!({"vault": "x"}), json!([1])]),
        ] {
            for value in values {
                assert_eq!(mismatches(of_key(&schema, key), value, "").is_empty(), is_valid, "{key}: {value}");
                let mut document = json!({"launchdarkly": {"environments": [{"name": "n", "sdk_key": "k"}]}});
                let (section, name) = key.rsplit_once('.').unwrap();
                section.split('.').fold(&mut document, |it, name| &mut it[name])[name] = value.clone();
                let mut loaded = Values::default();
                let unknown = loaded.add_file(&document, KEYS).err().unwrap_or_default();
                let lookup = |_: &str| Some("redis://host".to_owned());
                let mut reader = Reader::new(&loaded, KEYS, &lookup);
                Config::read(&mut reader, yardarm_wasm::Compiler::default());
                let errors = [unknown, reader.into_errors()].concat();
                assert_eq!(errors.is_empty(), is_valid, "{key}: {value}: {errors:?}");
            }
        }
    }
}
