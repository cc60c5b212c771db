//! The check of a plugin's configuration against the JSON Schema in its manifest.

use serde_json::{Map, Value};

use super::{LoadError, clean};

/// Maximum number of violations in an error.
const MOST_FAULTS: usize = 10;

/// Checks a configuration, if there is a schema for it. References to other documents are not followed.
///
/// # Errors
/// If the schema is not valid, or the configuration does not match it.
pub(crate) fn check(schema: Option<&Value>, config: &Map<String, Value>) -> Result<(), LoadError> {
    let Some(schema) = schema else { return Ok(()) };
    let validator = validator(schema)?;
    let config = Value::Object(config.clone());
    let fault = |error: jsonschema::ValidationError<'_>| {
        let place = error.instance_path().to_string();
        let place = if place.is_empty() { "/" } else { &place };
        // The value itself may be a secret.
        format!("`{place}`: {}", clean(&error.masked().to_string()))
    };
    let faults: Vec<_> = validator.iter_errors(&config).take(MOST_FAULTS).map(fault).collect();
    if faults.is_empty() { Ok(()) } else { Err(LoadError::ConfigMismatch { faults }) }
}

/// Checks a schema alone, if there is one.
///
/// # Errors
/// If it is not valid.
pub(crate) fn check_schema(schema: Option<&Value>) -> Result<(), LoadError> {
    schema.map_or(Ok(()), |schema| validator(schema).map(drop))
}

fn validator(schema: &Value) -> Result<jsonschema::Validator, LoadError> {
    jsonschema::validator_for(schema).map_err(|error| LoadError::ComponentManifestInvalid {
        text: format!("`config` is not a usable JSON Schema: {}", clean(&error.to_string())),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(schema: &Value, config: Value) -> Result<(), LoadError> {
        let Value::Object(config) = config else { panic!("a table") };
        super::check(Some(schema), &config)
    }

    #[test]
    fn violations_have_their_place_and_no_values() {
        let schema = json!({
            "type": "object",
            "properties": {"tokens": {"type": "array", "items": {"type": "string", "maxLength": 3}}},
            "additionalProperties": false,
        });
        assert_eq!(check(&schema, json!({"tokens": ["abc"]})), Ok(()));
        let error = check(&schema, json!({"tokens": ["secret-token"], "tokns": 1})).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("`/tokens/0`") && text.contains("tokns"), "{text}");
        assert!(!text.contains("secret-token"), "{text}");
        let error = check(&json!({"type": 7}), json!({})).unwrap_err();
        assert_eq!(error.class(), "manifest-invalid");
        let remote = check(&json!({"$ref": "https://example.com/schema.json"}), json!({})).unwrap_err();
        assert_eq!(remote.class(), "manifest-invalid", "nothing is fetched");
    }
}
