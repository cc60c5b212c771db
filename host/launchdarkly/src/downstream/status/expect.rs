//! `?expect=PATH=VALUE` on status routes: probes that expect values (L264). Pure.

use http::StatusCode;
use serde_json::{Map, Value, json};

/// All possible properties, whether or not they are present at the moment.
pub(super) enum Shape {
    /// A text, a number, true or false.
    Plain,
    /// These properties.
    Object(&'static [(&'static str, Shape)]),
    /// Properties of any name, all alike.
    Map(&'static Shape),
    /// Elements, all alike.
    List(&'static Shape),
}

/// A clause that cannot be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Problem {
    #[error("malformed clause, expected PATH=VALUE or PATH!=VALUE")]
    Malformed,
    #[error("unknown operator `{0}`, use = or !=")]
    UnknownOperator(String),
    #[error("unknown field `{0}`")]
    UnknownField(String),
    #[error("the path does not end at a value")]
    NotAValue,
    #[error("not present")]
    Absent,
}

/// A step from a value to one inside.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Name(String),
    Index(usize),
    /// The first element with this field.
    Where(String, String),
}

struct Clause {
    path: Vec<Step>,
    is_equal: bool,
    expected: String,
}

/// Evaluates all clauses of a request; `Err` if the query cannot be decoded.
pub(super) fn judge(document: &Value, shape: &Shape, clauses: Result<Vec<String>, ()>) -> (StatusCode, Value) {
    let Ok(clauses) = clauses else {
        let result = json!({"expr": "", "problem": "the query cannot be decoded", "ok": false});
        return (StatusCode::BAD_REQUEST, json!({"satisfied": false, "results": [result]}));
    };
    // The most severe outcome counts.
    let mut status = StatusCode::OK;
    let mut results = Vec::new();
    for text in clauses {
        let (own, result) = match Clause::parse(&text).and_then(|clause| clause.judge(document, shape)) {
            Ok((expected, actual, is_ok)) => {
                let own = if is_ok { StatusCode::OK } else { StatusCode::PRECONDITION_FAILED };
                (own, json!({"expr": text, "expected": expected, "actual": actual, "ok": is_ok}))
            }
            Err(problem) => {
                let own = match problem {
                    Problem::Malformed => StatusCode::BAD_REQUEST,
                    Problem::Absent => StatusCode::PRECONDITION_FAILED,
                    _ => StatusCode::UNPROCESSABLE_ENTITY,
                };
                (own, json!({"expr": text, "problem": problem.to_string(), "ok": false}))
            }
        };
        if rank(own) > rank(status) {
            status = own;
        }
        results.push(result);
    }
    (status, json!({"satisfied": status == StatusCode::OK, "results": results}))
}

fn rank(status: StatusCode) -> u8 {
    match status {
        StatusCode::OK => 0,
        StatusCode::PRECONDITION_FAILED => 1,
        StatusCode::UNPROCESSABLE_ENTITY => 2,
        _ => 3,
    }
}

impl Clause {
    fn parse(text: &str) -> Result<Self, Problem> {
        let mut rest = text;
        let mut path = Vec::new();
        loop {
            rest = match rest.strip_prefix('[') {
                Some(inside) => {
                    let (step, after) = bracket(inside)?;
                    path.push(step);
                    after
                }
                None => {
                    let end = rest.find(|it: char| ".[=!<>~".contains(it)).ok_or(Problem::Malformed)?;
                    if end == 0 {
                        return Err(Problem::Malformed);
                    }
                    path.push(Step::Name(rest[..end].to_owned()));
                    &rest[end..]
                }
            };
            match rest.chars().next() {
                Some('.') => rest = &rest[1..],
                Some('[') => (),
                _ => break,
            }
        }
        let end = rest.find(|it: char| !"=!<>~".contains(it)).unwrap_or(rest.len());
        let is_equal = match &rest[..end] {
            "=" => true,
            "!=" => false,
            "" => return Err(Problem::Malformed),
            other => return Err(Problem::UnknownOperator(other.to_owned())),
        };
        Ok(Self { path, is_equal, expected: rest[end..].to_owned() })
    }

    /// The expected value, the present value, and whether the clause holds.
    fn judge(&self, document: &Value, shape: &Shape) -> Result<(String, String, bool), Problem> {
        let (mut shape, mut value) = (shape, Some(document));
        for step in &self.path {
            shape = step.shape(shape)?;
            value = value.and_then(|it| step.value(it));
        }
        if !matches!(shape, Shape::Plain) {
            return Err(Problem::NotAValue);
        }
        let actual = plain(value.ok_or(Problem::Absent)?).ok_or(Problem::NotAValue)?;
        let is_ok = (actual == self.expected) == self.is_equal;
        Ok((self.expected.clone(), actual, is_ok))
    }
}

/// The text between brackets, and the text behind them.
fn bracket(inside: &str) -> Result<(Step, &str), Problem> {
    if let Some(quoted) = inside.strip_prefix('"') {
        let (name, after) = quoted.split_once("\"]").ok_or(Problem::Malformed)?;
        return Ok((Step::Name(name.to_owned()), after));
    }
    let (content, after) = inside.split_once(']').ok_or(Problem::Malformed)?;
    let step = match content.split_once('=') {
        Some((field, value)) if !field.is_empty() => Step::Where(field.to_owned(), value.to_owned()),
        _ => Step::Index(content.parse().map_err(|_| Problem::Malformed)?),
    };
    Ok((step, after))
}

impl Step {
    fn shape<'a>(&self, shape: &'a Shape) -> Result<&'a Shape, Problem> {
        let unknown = |name: &str| Problem::UnknownField(name.to_owned());
        match (self, shape) {
            (Self::Name(name), Shape::Object(fields)) => {
                fields.iter().find(|(it, _)| it == name).map(|(_, shape)| shape).ok_or_else(|| unknown(name))
            }
            (Self::Name(_), Shape::Map(inner)) | (Self::Index(_), Shape::List(inner)) => Ok(inner),
            (Self::Where(field, _), Shape::List(inner)) => {
                Self::Name(field.clone()).shape(inner)?;
                Ok(inner)
            }
            (Self::Name(name), _) => Err(unknown(name)),
            (Self::Index(index), _) => Err(unknown(&format!("[{index}]"))),
            (Self::Where(field, _), _) => Err(unknown(&format!("[{field}]"))),
        }
    }

    fn value<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        match self {
            Self::Name(name) => value.as_object().and_then(|it: &Map<_, _>| it.get(name)),
            Self::Index(index) => value.as_array()?.get(*index),
            Self::Where(field, wanted) => {
                let has_it = |it: &&Value| it.get(field).and_then(plain).as_ref() == Some(wanted);
                value.as_array()?.iter().find(has_it)
            }
        }
    }
}

/// A value as text; `None` for objects, lists and null.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(it) => Some(it.to_string()),
        Value::Number(it) => Some(it.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape::Object(&[
        ("status", Shape::Plain),
        (
            "environments",
            Shape::Map(&Shape::Object(&[
                ("status", Shape::Plain),
                ("envId", Shape::Plain),
                ("since", Shape::Plain),
                ("sdkKeys", Shape::List(&Shape::Object(&[("key", Shape::Plain), ("expiry", Shape::Plain)]))),
            ])),
        ),
    ]);

    #[test]
    fn clauses_are_evaluated() {
        let document = json!({"status": "healthy", "environments": {
            "My Env": {"status": "connected", "since": 12, "sdkKeys": [{"key": "a", "expiry": 7}, {"key": "b"}]},
            "a\"]b": {"status": "x"},
        }});
        for (clauses, status) in [
            (&["status=healthy"][..], 200),
            (&["status=degraded"], 412),
            (&["status!=degraded"], 200),
            (&["status!=healthy"], 412),
            (&[r#"environments["My Env"].status!=disconnected"#], 200),
            (&[r#"environments["My Env"].since=12"#], 200),
            (&[r#"environments["My Env"].sdkKeys[0].expiry=7"#], 200),
            (&[r#"environments["My Env"].sdkKeys[key=b].key=b"#], 200),
            (&[r#"environments["My Env"].sdkKeys[key=b].expiry!=7"#], 412),
            (&[r#"environments["My Env"].sdkKeys[9].key=b"#], 412),
            (&[r#"environments["My Env"].sdkKeys[wrong=b].key=b"#], 422),
            (&[r#"environments["My Env"].envId!=x"#], 412),
            (&["environments.other.status=connected"], 412),
            (&["status=healthy", "status=degraded"], 412),
            (&["stat=healthy"], 422),
            (&["status.deeper=x"], 422),
            (&["status[0]=x"], 422),
            (&["environments=x"], 422),
            (&[r#"environments["My Env"]=x"#], 422),
            (&["status==healthy"], 422),
            (&["status>healthy"], 422),
            (&["status=degraded", "stat=x"], 422),
            (&["status"], 400),
            (&["=x"], 400),
            (&[""], 400),
            (&["status.=x"], 400),
            (&["environments[x].status=y"], 400),
            (&[r#"environments["x.status=y"#], 400),
            (&["stat=x", "status"], 400),
        ] {
            let clauses: Vec<_> = clauses.iter().map(|it| (*it).to_owned()).collect();
            let (found, body) = judge(&document, &SHAPE, Ok(clauses.clone()));
            assert_eq!(found, status, "{clauses:?} {body}");
            assert_eq!(body["satisfied"], status == 200);
        }
        assert_eq!(judge(&document, &SHAPE, Err(())).0, 400);
    }

    #[test]
    fn results_contain_the_present_value() {
        let (_, body) = judge(&json!({"status": "healthy"}), &SHAPE, Ok(vec!["status=x".into(), "y=1".into()]));
        let expected = json!({"satisfied": false, "results": [
            {"expr": "status=x", "expected": "x", "actual": "healthy", "ok": false},
            {"expr": "y=1", "problem": "unknown field `y`", "ok": false},
        ]});
        assert_eq!(body, expected);
    }

    proptest::proptest! {
        #[test]
        fn no_clause_makes_it_panic(clause in "\\PC*") {
            judge(&json!({}), &SHAPE, Ok(vec![clause]));
        }
    }
}
