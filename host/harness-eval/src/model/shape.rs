//! The properties of items on the wire (F058 to F060, F067), and how an item is brought into that shape.
//!
//! SDKs read all items of an environment in one go, and many of them fail as a whole over one item in which a property is
//! missing, `null`, or of another type. Such items are not forwarded as they are: missing properties are filled in, broken
//! properties without influence are left out, and any other broken property makes this one item unreadable.

use serde::de::Error;
use serde_json::{Map, Value};

use super::wire::MAX_VERSION;

/// One property.
struct Property {
    name: &'static str,
    shape: Shape,
    presence: Presence,
}

/// The type that a value must have.
#[derive(Clone, Copy)]
enum Shape {
    Text,
    Bool,
    /// An integer, in any notation.
    Whole,
    /// An object of this shape.
    Object(&'static [Property]),
    /// A list of objects of this shape.
    Objects(&'static [Property]),
    Texts,
    /// An object with any properties.
    AnyObject,
}

/// How a property is treated that is missing, `null`, or of another type.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    /// Any other value is an error.
    Required,
    /// Filled in if it is missing or `null`; another type is an error.
    Filled(Filling),
    /// Left out if it is `null`; another type is an error.
    Optional,
    /// Filled in if it is missing, `null`, or of another type, because nothing depends on it.
    Incidental,
    /// Left out if it is `null` or of another type.
    Dispensable,
}

/// The value that is filled in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Filling {
    /// The empty value of the shape, as in the vendor's relay.
    Empty,
    Text(&'static str),
}

const fn property(name: &'static str, shape: Shape, presence: Presence) -> Property {
    Property { name, shape, presence }
}

use Presence::{Dispensable, Incidental, Optional, Required};
use Shape::{AnyObject, Bool, Object, Objects, Text, Texts, Whole};

const EMPTY: Presence = Presence::Filled(Filling::Empty);

pub(super) const FLAG: Properties = Properties(&[
    property("feature", Text, Required),
    property("project", Text, Incidental),
    property("environment", Text, Incidental),
    // Some SDKs fail on an empty state or kind. Any state but `on` is evaluated as `off`, and values are texts.
    property("state", Text, Presence::Filled(Filling::Text("off"))),
    property("kind", Text, Presence::Filled(Filling::Text("string"))),
    property("variations", Objects(VARIATION), EMPTY),
    property("defaultServe", Object(SERVE), EMPTY),
    property("offVariation", Text, EMPTY),
    property("rules", Objects(RULE), Optional),
    property("prerequisites", Objects(PREREQUISITE), Optional),
    property("variationToTargetMap", Objects(VARIATION_MAP), EMPTY),
    property("version", Whole, Optional),
]);

pub(super) const SEGMENT: Properties = Properties(&[
    property("identifier", Text, Required),
    property("name", Text, Incidental),
    property("environment", Text, Dispensable),
    property("tags", Objects(TAG), Dispensable),
    property("included", Objects(TARGET), Optional),
    property("excluded", Objects(TARGET), Optional),
    property("rules", Objects(CLAUSE), Optional),
    property("servingRules", Objects(GROUP_RULE), Optional),
    property("createdAt", Whole, Dispensable),
    property("modifiedAt", Whole, Dispensable),
    property("version", Whole, Optional),
]);

const VARIATION: &[Property] = &[
    property("identifier", Text, Required),
    property("value", Text, EMPTY),
    property("name", Text, Dispensable),
    property("description", Text, Dispensable),
];
const SERVE: &[Property] =
    &[property("variation", Text, Optional), property("distribution", Object(DISTRIBUTION), Optional)];
const DISTRIBUTION: &[Property] =
    &[property("bucketBy", Text, EMPTY), property("variations", Objects(WEIGHTED_VARIATION), EMPTY)];
const WEIGHTED_VARIATION: &[Property] = &[property("variation", Text, EMPTY), property("weight", Whole, EMPTY)];
const RULE: &[Property] = &[
    property("ruleId", Text, Dispensable),
    property("priority", Whole, EMPTY),
    property("clauses", Objects(CLAUSE), EMPTY),
    property("serve", Object(SERVE), EMPTY),
];
const GROUP_RULE: &[Property] = &[
    property("ruleId", Text, Incidental),
    property("priority", Whole, EMPTY),
    property("clauses", Objects(CLAUSE), EMPTY),
];
const CLAUSE: &[Property] = &[
    property("id", Text, Dispensable),
    property("attribute", Text, EMPTY),
    property("op", Text, EMPTY),
    property("values", Texts, EMPTY),
    // It has no influence, but SDKs require it.
    property("negate", Bool, Incidental),
];
const PREREQUISITE: &[Property] = &[property("feature", Text, Required), property("variations", Texts, EMPTY)];
const VARIATION_MAP: &[Property] = &[
    property("variation", Text, EMPTY),
    property("targets", Objects(NAMED), Optional),
    property("targetSegments", Texts, Optional),
];
const NAMED: &[Property] = &[property("identifier", Text, EMPTY), property("name", Text, Incidental)];
const TAG: &[Property] = &[property("identifier", Text, Incidental), property("name", Text, Incidental)];
const TARGET: &[Property] = &[
    property("identifier", Text, EMPTY),
    property("name", Text, Incidental),
    property("account", Text, Incidental),
    property("org", Text, Incidental),
    property("environment", Text, Incidental),
    property("project", Text, Incidental),
    property("anonymous", Bool, Dispensable),
    property("attributes", AnyObject, Dispensable),
    property("createdAt", Whole, Dispensable),
];

/// The properties of an item.
pub(super) struct Properties(&'static [Property]);

impl Properties {
    /// Brings an item into this shape. Unknown properties stay as they are.
    ///
    /// # Errors
    /// When a property that matters is of another type.
    pub(super) fn apply(&self, item: &mut Value) -> Result<(), serde_json::Error> {
        apply(self.0, item).map_err(|path| serde_json::Error::custom(format!("{path} is not of the right type")))
    }
}

/// Brings an object into a shape. The error is the path of the property that does not fit.
fn apply(properties: &[Property], object: &mut Value) -> Result<(), String> {
    let object = object.as_object_mut().ok_or("the item")?;
    properties.iter().try_for_each(|property| property.apply(object).map_err(|rest| property.path(&rest)))
}

impl Property {
    fn apply(&self, object: &mut Map<String, Value>) -> Result<(), String> {
        let value = object.get_mut(self.name).filter(|it| !it.is_null());
        let problem = match value {
            Some(value) => match self.shape.fit(value) {
                Ok(()) => return Ok(()),
                Err(problem) => Some(problem),
            },
            None => None,
        };
        match (self.presence, problem) {
            (Presence::Filled(filling), None) => self.fill(object, filling),
            (Incidental, _) => self.fill(object, Filling::Empty),
            (Optional, None) | (Dispensable, _) => drop(object.remove(self.name)),
            (Required, None) => return Err(String::new()),
            (_, Some(problem)) => return Err(problem),
        }
        Ok(())
    }

    fn fill(&self, object: &mut Map<String, Value>, filling: Filling) {
        let value = match filling {
            Filling::Text(text) => text.into(),
            Filling::Empty => self.shape.empty(),
        };
        object.insert(self.name.to_owned(), value);
    }

    fn path(&self, rest: &str) -> String {
        if rest.is_empty() { format!("`{}`", self.name) } else { format!("`{}`, {rest}", self.name) }
    }
}

impl Shape {
    /// Checks that a value has this shape, and brings its properties into theirs. The error is the path of the property that
    /// does not fit.
    fn fit(self, value: &mut Value) -> Result<(), String> {
        let fits = |it: bool| if it { Ok(()) } else { Err(String::new()) };
        match self {
            Text => fits(value.is_string()),
            Bool => fits(value.is_boolean()),
            AnyObject => fits(value.is_object()),
            Texts => fits(value.as_array().is_some_and(|all| all.iter().all(Value::is_string))),
            Object(properties) => {
                fits(value.is_object())?;
                apply(properties, value)
            }
            Objects(properties) => {
                let all = value.as_array_mut().ok_or_else(String::new)?;
                all.iter_mut()
                    .enumerate()
                    .try_for_each(|(index, each)| apply(properties, each).map_err(|rest| format!("[{index}] {rest}")))
            }
            Whole => {
                if !value.is_i64() {
                    // SDKs with strict types reject `5.0`.
                    *value = whole(value).ok_or_else(String::new)?.into();
                }
                Ok(())
            }
        }
    }

    fn empty(self) -> Value {
        match self {
            Text => "".into(),
            Bool => false.into(),
            Whole => 0.into(),
            Object(_) | AnyObject => Map::new().into(),
            Objects(_) | Texts => Vec::<Value>::new().into(),
        }
    }
}

/// Reads an integer that is written as a decimal number, such as `5.0` or `1e3`.
fn whole(value: &Value) -> Option<i64> {
    let number = value.as_f64().filter(|it| it.fract() == 0.0)?;
    #[expect(clippy::cast_possible_truncation, reason = "a fraction is excluded, and the cast saturates")]
    Some(number as i64).filter(|it| (-MAX_VERSION..=MAX_VERSION).contains(it))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn flag() -> Value {
        json!({
            "feature": "f", "project": "p", "environment": "e", "state": "on", "kind": "boolean", "offVariation": "a",
            "variations": [{"identifier": "a", "value": "1"}], "defaultServe": {"variation": "a"},
            "variationToTargetMap": [], "version": 3, "unknown": [null, 1.5],
        })
    }

    fn with(mut item: Value, name: &str, value: Value) -> Value {
        item[name] = value;
        item
    }

    #[test]
    fn a_complete_item_stays_as_it_is() {
        let mut after = flag();
        FLAG.apply(&mut after).unwrap();
        assert_eq!(after, flag());
        let target = json!({"identifier": "t", "name": "", "account": "", "org": "", "environment": "", "project": ""});
        let segment = json!({
            "identifier": "s", "name": "S", "included": [target], "tags": [{"identifier": "i", "name": "n", "value": "v"}],
            "rules": [{"attribute": "a", "op": "in", "values": ["x"], "negate": true, "id": "1"}], "version": 1,
        });
        let mut after = segment.clone();
        SEGMENT.apply(&mut after).unwrap();
        assert_eq!(after, segment);
    }

    #[test]
    fn missing_properties_are_filled_in() {
        let mut flag = json!({
            "feature": "f", "rules": [{"clauses": [{}]}, {"clauses": null, "serve": {"distribution": {"variations": [{}]}}}],
            "prerequisites": [{"feature": "g"}], "variationToTargetMap": [{"targets": [{}]}],
        });
        FLAG.apply(&mut flag).unwrap();
        assert_eq!(
            flag,
            json!({
                "feature": "f", "project": "", "environment": "", "state": "off", "kind": "string", "variations": [],
                "defaultServe": {}, "offVariation": "",
                "rules": [
                    {"priority": 0, "serve": {}, "clauses": [{"attribute": "", "op": "", "values": [], "negate": false}]},
                    {"priority": 0, "clauses": [], "serve": {"distribution":
                        {"bucketBy": "", "variations": [{"variation": "", "weight": 0}]}}},
                ],
                "prerequisites": [{"feature": "g", "variations": []}],
                "variationToTargetMap": [{"variation": "", "targets": [{"identifier": "", "name": ""}]}],
            })
        );
    }

    #[test]
    fn broken_properties_without_influence_are_left_out_or_filled_in() {
        let segment = json!({
            "identifier": "s", "name": 7, "environment": 7, "tags": "x", "createdAt": "x", "modifiedAt": 1e300,
            "included": [{"identifier": "t", "anonymous": "no", "attributes": [1], "name": null}],
            "servingRules": [{"ruleId": 7, "clauses": [{"id": null, "negate": "x"}]}], "rules": null,
        });
        let mut after = segment;
        SEGMENT.apply(&mut after).unwrap();
        let target = json!({"identifier": "t", "name": "", "account": "", "org": "", "environment": "", "project": ""});
        let clause = json!({"attribute": "", "op": "", "values": [], "negate": false});
        let rule = json!({"ruleId": "", "priority": 0, "clauses": [clause]});
        assert_eq!(after, json!({"identifier": "s", "name": "", "included": [target], "servingRules": [rule]}));
    }

    #[test]
    fn integers_are_written_without_a_fraction() {
        for (number, expected) in [(json!(5.0), Some("5")), (json!(1e3), Some("1000")), (json!(-0.0), Some("0"))] {
            let mut flag = with(flag(), "version", number);
            FLAG.apply(&mut flag).unwrap();
            assert_eq!(Some(flag["version"].to_string().as_str()), expected);
        }
        for number in [json!(5.5), json!("5"), json!(1e300), json!(-1e300), json!(u64::MAX), json!(true)] {
            assert!(FLAG.apply(&mut with(flag(), "version", number.clone())).is_err(), "{number}");
        }
    }

    #[test]
    fn a_broken_property_that_matters_is_an_error_with_its_path() {
        for (name, value, expected) in [
            ("feature", json!(null), "`feature` is not"),
            ("state", json!(7), "`state` is not"),
            ("variations", json!([{"identifier": "a"}, {"value": "x"}]), "`variations`, [1] `identifier` is not"),
            ("rules", json!([{"clauses": [{"values": ["x", 7]}]}]), "`rules`, [0] `clauses`, [0] `values` is not"),
            ("rules", json!([7]), "`rules`, [0] the item is not"),
            ("defaultServe", json!({"distribution": []}), "`defaultServe`, `distribution` is not"),
        ] {
            let problem = FLAG.apply(&mut with(flag(), name, value.clone())).unwrap_err().to_string();
            assert!(problem.starts_with(expected), "{value}: {problem}");
        }
        assert!(FLAG.apply(&mut json!([])).is_err() && SEGMENT.apply(&mut json!({"identifier": 7})).is_err());
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[a-z]{0,3}".prop_map(Value::from),
        ];
        let names = FLAG.0.iter().chain(RULE).chain(CLAUSE).chain(SERVE).chain(DISTRIBUTION).map(|it| it.name);
        let names = proptest::sample::select(names.collect::<Vec<_>>());
        leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                proptest::collection::vec((names.clone(), inner), 0..5).prop_map(|all| all
                    .into_iter()
                    .map(|(name, it)| (name.to_owned(), it))
                    .collect::<Map<_, _>>()
                    .into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn applying_a_shape_twice_changes_nothing(name in proptest::sample::select(FLAG.0.iter().map(|it| it.name).collect::<Vec<_>>()), value in any_json()) {
            let mut flag = with(flag(), name, value);
            if FLAG.apply(&mut flag).is_ok() {
                let before = flag.clone();
                FLAG.apply(&mut flag).unwrap();
                prop_assert_eq!(flag, before);
            }
        }
    }
}
