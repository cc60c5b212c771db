//! Input data of the gateway. Deterministic: the only source of randomness is a counter.

use serde_json::{Map, Value, json};

const COUNTRIES: [&str; 12] = ["de", "fr", "us", "gb", "jp", "br", "in", "se", "pl", "es", "it", "nl"];
const PLANS: [&str; 5] = ["free", "starter", "team", "business", "enterprise"];
const DOMAINS: [&str; 6] =
    ["example.com", "example.org", "corp.example", "mail.example", "shop.example", "dev.example"];
const SEGMENTS: usize = 6;

/// SplitMix64: small, sufficient, and the same on every platform.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.roll() % bound as u64) as usize
    }

    fn pick<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len())]
    }

    fn some(&mut self, all: &[&str], count: usize) -> Vec<String> {
        (0..count).map(|_| self.pick(all).to_owned()).collect()
    }
}

/// Returns an environment of a few flags without rules.
pub(crate) fn small() -> Value {
    let flags: Map<String, Value> =
        (0..20).map(|index| (format!("small-{index:02}"), plain(&format!("small-{index:02}"), 1))).collect();
    json!({ "flags": flags, "segments": {} })
}

/// Returns an environment of flags with rules, with at least `bytes` bytes of JSON.
pub(crate) fn of_size(bytes: usize) -> Value {
    let mut dice = Dice::new(1);
    let mut flags = Map::new();
    let mut size = 0;
    while size < bytes {
        let flag = rich(&mut dice, flags.len());
        let key = flag["key"].as_str().unwrap_or_default().to_owned();
        size += flag.to_string().len() + key.len() + 4;
        flags.insert(key, flag);
    }
    json!({ "flags": flags, "segments": segments() })
}

/// Returns an environment of `count` flags with rules.
pub(crate) fn of_flags(count: usize) -> Value {
    let mut dice = Dice::new(2);
    let flags = (0..count).map(|index| rich(&mut dice, index));
    let flags: Map<String, Value> =
        flags.map(|flag| (flag["key"].as_str().unwrap_or_default().to_owned(), flag)).collect();
    json!({ "flags": flags, "segments": segments() })
}

/// Returns an environment of `count` flags with two rules, each of about `bytes` bytes, and without segments.
pub(crate) fn of_flag_size(count: usize, bytes: usize) -> Value {
    let mut dice = Dice::new(6);
    let flag = |index: usize| {
        let mut flag = rich(&mut dice, index);
        let key = flag["key"].as_str().unwrap_or_default().to_owned();
        if let Some(rules) = flag["rules"].as_array_mut() {
            rules.truncate(2);
            for clauses in rules.iter_mut().filter_map(|it| it["clauses"].as_array_mut()) {
                clauses.truncate(1);
            }
        }
        flag["targets"] = json!([]);
        flag["description"] = json!("");
        let missing = bytes.saturating_sub(flag.to_string().len() + key.len() + 4);
        flag["description"] = json!("d".repeat(missing));
        (key, flag)
    };
    json!({ "flags": (0..count).map(flag).collect::<Map<_, _>>(), "segments": {} })
}

/// Returns a flag whose patch is an event of about `bytes` bytes.
pub(crate) fn patch(version: usize, bytes: usize) -> Value {
    let mut flag = plain("patched", version);
    flag["description"] = json!("");
    let bare = patch_event(&flag).to_string().len() + "event: patch\ndata: \n\n".len();
    flag["description"] = json!("x".repeat(bytes.saturating_sub(bare)));
    flag
}

/// Returns the data of the event that announces a flag.
pub(crate) fn patch_event(flag: &Value) -> Value {
    json!({ "path": format!("/flags/{}", flag["key"].as_str().unwrap_or_default()), "data": flag })
}

/// Returns the data of the event that contains everything.
pub(crate) fn put_event(data: &Value) -> Value {
    json!({ "path": "/", "data": data })
}

/// Returns contexts in the form used in URLs.
pub(crate) fn contexts(count: usize) -> Vec<String> {
    let mut dice = Dice::new(3);
    let context = |index: usize| {
        let key = format!("user-{index:06}-{:08x}", dice.roll() as u32);
        json!({
            "kind": "user",
            "key": key,
            "email": format!("{key}@{}", dice.pick(&DOMAINS)),
            "country": dice.pick(&COUNTRIES),
            "plan": dice.pick(&PLANS),
            "age": 16 + dice.below(60),
            "appVersion": format!("{}.{}.{}", 1 + dice.below(4), dice.below(10), dice.below(10)),
            "groups": dice.some(&["beta", "staff", "partner", "press", "legal"], 2),
            "anonymous": false,
        })
    };
    (0..count).map(context).map(|it| base64_url(it.to_string().as_bytes())).collect()
}

/// Returns analytics events of about `bytes` bytes each, most of which contain their context.
pub(crate) fn events(count: usize, bytes: usize) -> Vec<Value> {
    let mut dice = Dice::new(4);
    (0..count)
        .map(|index| {
            let key = format!("user-{index:06}");
            let context = json!({
                "kind": "user", "key": key, "email": format!("{key}@{}", dice.pick(&DOMAINS)), "country": dice.pick(&COUNTRIES),
            });
            let at = 1_700_000_000_000_u64 + index as u64;
            let mut event = match index % 20 {
                0 => json!({"kind": "click", "creationDate": at, "url": "https://shop.example/", "contextKeys": {"user": key}}),
                1..=8 => json!({"kind": "feature", "creationDate": at, "key": "flag", "variation": 1, "value": true, "default": false, "context": context}),
                9..=14 => json!({"kind": "index", "creationDate": at, "context": context}),
                15..=17 => json!({"kind": "custom", "creationDate": at, "key": "bought", "metricValue": 1.5, "context": context}),
                _ => json!({"kind": "identify", "creationDate": at, "context": context}),
            };
            let missing = bytes.saturating_sub(event.to_string().len() + ",\"agent\":\"\"".len());
            event["agent"] = json!("Mozilla/5.0 (compatible; padding) ".repeat(missing / 34 + 1)[..missing]);
            event
        })
        .collect()
}

/// Encodes URL-safe base64 without padding.
fn base64_url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(bytes.len() * 4 / 3 + 3);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for digit in 0..=group.len() {
            text.push(char::from(DIGITS[(bits >> (18 - 6 * digit)) as usize & 63]));
        }
    }
    text
}

/// Returns a flag without rules.
pub(crate) fn plain(key: &str, version: usize) -> Value {
    json!({
        "key": key, "version": version, "on": true, "salt": key, "variations": [true, false],
        "fallthrough": {"variation": 0}, "offVariation": 1, "prerequisites": [], "targets": [], "rules": [],
        "clientSideAvailability": {"usingMobileKey": true, "usingEnvironmentId": true},
    })
}

/// Returns a flag that is typical of large organisations: some individual targets, five rules of three clauses, a
/// rollout.
fn rich(dice: &mut Dice, index: usize) -> Value {
    let key = format!("team-{}-feature-{index:04}", index % 17);
    let rules: Vec<Value> = (0..5)
        .map(|number| {
            let mut rule = json!({
                "id": format!("{key}-rule-{number}"),
                "clauses": (0..3).map(|_| clause(dice)).collect::<Vec<_>>(),
                "trackEvents": false,
            });
            if number % 2 == 0 {
                rule["variation"] = json!(dice.below(4));
            } else {
                rule["rollout"] = rollout(dice);
            }
            rule
        })
        .collect();
    let targets: Vec<String> = (0..10).map(|_| format!("user-{:06}", dice.below(1_000_000))).collect();
    let mut flag = plain(&key, 1 + dice.below(50));
    flag["variations"] = json!(["control", "treatment-a", "treatment-b", format!("{key}-off")]);
    flag["offVariation"] = json!(3);
    flag["targets"] = json!([{ "variation": dice.below(4), "values": targets }]);
    flag["rules"] = json!(rules);
    flag["fallthrough"] = json!({ "rollout": rollout(dice) });
    flag["trackEvents"] = json!(index.is_multiple_of(10));
    if index >= 20 && index.is_multiple_of(7) {
        let before = index - 17;
        flag["prerequisites"] =
            json!([{ "key": format!("team-{}-feature-{before:04}", before % 17), "variation": dice.below(4) }]);
    }
    flag
}

fn rollout(dice: &mut Dice) -> Value {
    let first = 20_000 + dice.below(40_000);
    let second = dice.below(100_000 - first);
    json!({
        "contextKind": "user",
        "variations": [
            {"variation": 0, "weight": first}, {"variation": 1, "weight": second}, {"variation": 2, "weight": 100_000 - first - second},
        ],
    })
}

fn clause(dice: &mut Dice) -> Value {
    let is_negated = dice.below(8) == 0;
    let (attribute, op, values) = match dice.below(8) {
        0 | 1 => ("country", "in", json!(dice.some(&COUNTRIES, 4))),
        2 => ("email", "endsWith", json!(dice.some(&DOMAINS, 2))),
        3 => ("plan", "in", json!(dice.some(&PLANS, 2))),
        4 => ("age", "greaterThan", json!([20 + dice.below(40)])),
        5 => ("appVersion", "semVerGreaterThan", json!([format!("{}.{}.0", 1 + dice.below(3), dice.below(10))])),
        6 => ("groups", "in", json!(dice.some(&["beta", "staff", "partner", "press", "legal"], 2))),
        _ => ("", "segmentMatch", json!([format!("segment-{}", dice.below(SEGMENTS))])),
    };
    json!({ "attribute": attribute, "op": op, "values": values, "negate": is_negated, "contextKind": "user" })
}

fn segments() -> Value {
    let mut dice = Dice::new(5);
    let segment = |index: usize| {
        let included: Vec<String> = (0..200).map(|_| format!("user-{:06}", dice.below(1_000_000))).collect();
        let key = format!("segment-{index}");
        let clauses: Vec<Value> = vec![
            json!({"attribute": "country", "op": "in", "values": dice.some(&COUNTRIES, 5), "negate": false, "contextKind": "user"}),
            json!({"attribute": "age", "op": "lessThan", "values": [30 + dice.below(30)], "negate": false, "contextKind": "user"}),
        ];
        let body = json!({
            "key": key, "version": 1, "salt": key, "included": included, "excluded": [],
            "rules": [{ "id": format!("{key}-rule"), "clauses": clauses, "weight": 60_000, "rolloutContextKind": "user" }],
        });
        (key, body)
    };
    Value::Object((0..SEGMENTS).map(segment).collect())
}

/// Returns Harness flags with rules.
pub(crate) fn harness_flags(count: usize) -> Vec<Value> {
    (0..count).map(|index| harness_flag(&format!("flag-{index:04}"), 1)).collect()
}

/// Returns a Harness flag with targets, rules and a rollout, whose texts contain the version.
pub(crate) fn harness_flag(feature: &str, version: usize) -> Value {
    let variation = |index: usize| {
        let text = format!("text {version} of variation {index}, long enough to be one");
        json!({"identifier": format!("v{index}"), "name": format!("Variation {index}"), "value": text})
    };
    let clause = |attribute: &str, op: &str, values: &[&str]| json!({"id": attribute, "attribute": attribute, "op": op, "negate": false, "values": values});
    let rule = |priority: usize| {
        let clauses = [
            clause("country", "in", &COUNTRIES[priority..priority + 4]),
            clause("plan", "equal", &PLANS[priority % 5..priority % 5 + 1]),
            clause("email", "ends_with", &DOMAINS[priority..priority + 1]),
        ];
        json!({"ruleId": format!("r{priority}"), "priority": priority, "clauses": clauses, "serve": {"variation": "v1"}})
    };
    let mut rules: Vec<Value> = (1..5).map(rule).collect();
    let beta = clause("", "segmentMatch", &["beta"]);
    rules.push(json!({"ruleId": "beta", "priority": 9, "clauses": [beta], "serve": {"variation": "v2"}}));
    let share = |index: usize, weight: usize| json!({"variation": format!("v{index}"), "weight": weight});
    let shares = json!([share(0, 20), share(1, 30), share(2, 50)]);
    let named: Vec<Value> = (0..10).map(|it| json!({"identifier": format!("named-{it}"), "name": "Named"})).collect();
    json!({
        "project": "bench", "environment": "bench", "feature": feature, "state": "on", "kind": "string",
        "variations": [variation(0), variation(1), variation(2)], "offVariation": "v0", "rules": rules,
        "defaultServe": {"distribution": {"bucketBy": "identifier", "variations": shares}}, "prerequisites": [],
        "variationToTargetMap": [{"variation": "v2", "targets": named}], "version": version,
    })
}

/// Returns the segment of those flags.
pub(crate) fn harness_segment() -> Value {
    let member = |it: usize| json!({"identifier": format!("member-{it}"), "name": "", "account": "", "org": "", "environment": "", "project": ""});
    let members: Vec<Value> = (0..100).map(member).collect();
    json!({"identifier": "beta", "name": "Beta", "included": members, "excluded": [], "rules": [], "version": 1})
}
