use proptest::prelude::*;

use super::*;
use crate::data::ItemKind;

const INTENTS: [&str; 3] = ["none", "xfer-full", "xfer-changes"];

fn intent(code: &str) -> String {
    format!(r#"{{"payloads":[{{"id":"p","target":1,"intentCode":"{code}","reason":"r"}},{{"intentCode":"other"}}]}}"#)
}

fn put(key: &str, version: i64) -> String {
    let object = format!(r#"{{"key":"{key}","version":{version}}}"#);
    format!(r#"{{"version":99,"kind":"flag","key":"{key}","object":{object}}}"#)
}

fn delete(key: &str, version: i64) -> String {
    format!(r#"{{"version":{version},"kind":"flag","key":"{key}"}}"#)
}

fn end(state: &str) -> String {
    format!(r#"{{"state":"{state}","version":1}}"#)
}

/// The receiving side of a connection.
struct Receiver {
    transfer: Transfer,
    items: Option<Items>,
    selector: Option<Selector>,
}

impl Receiver {
    fn new() -> Self {
        Self { transfer: Transfer::new(false), items: None, selector: None }
    }

    /// Receives an event; returns what it led to, or the error.
    fn receive(&mut self, name: &str, data: &str) -> Result<&'static str, String> {
        let step = parse(name, data).and_then(|event| self.transfer.push(event, data.len()));
        Ok(match step.map_err(|error| error.to_string())? {
            Step::Pending => "pending",
            Step::UpToDate => "up to date",
            Step::Goodbye(_) => "goodbye",
            Step::Complete(set) => {
                self.items = Some(set.merged(self.items.as_ref()));
                self.selector = set.selector;
                "complete"
            }
        })
    }

    fn flags(&self) -> Vec<(String, i64, bool)> {
        let flags = self.items.iter().flat_map(|it| it.flags.iter());
        flags.map(|it| (it.key().to_string(), it.version(), it.is_deleted())).collect()
    }

    fn live(&self) -> Vec<(String, i64)> {
        self.flags().into_iter().filter(|it| !it.2).map(|(key, version, _)| (key, version)).collect()
    }
}

fn pairs(all: &[(&str, i64)]) -> Vec<(String, i64)> {
    all.iter().map(|(key, version)| ((*key).to_owned(), *version)).collect()
}

#[test]
fn changes_become_visible_when_they_are_complete() {
    let mut receiver = Receiver::new();
    for (name, data, led_to, live) in [
        ("put-object", put("early", 1), "pending", &[][..]),
        ("server-intent", intent("xfer-full"), "pending", &[]),
        ("put-object", put("a", 4), "pending", &[]),
        ("put-object", put("b", 1), "pending", &[]),
        ("put-object", r#"{"kind":"experiment","key":"x","object":7}"#.to_owned(), "pending", &[]),
        ("heart-beat", "not JSON".to_owned(), "pending", &[]),
        ("payload-transferred", end("(p:a:1)"), "complete", &[("a", 4), ("b", 1)]),
        // Without another intent, changes.
        ("put-object", put("c", 1), "pending", &[("a", 4), ("b", 1)]),
        ("delete-object", delete("b", 53), "pending", &[("a", 4), ("b", 1)]),
        ("payload-transferred", end("(p:a:2)"), "complete", &[("a", 4), ("c", 1)]),
        // The service discards what it has sent.
        ("put-object", put("a", 5), "pending", &[("a", 4), ("c", 1)]),
        ("error", r#"{"id":"p","reason":"no"}"#.to_owned(), "pending", &[("a", 4), ("c", 1)]),
        ("put-object", put("c", 2), "pending", &[("a", 4), ("c", 1)]),
        ("payload-transferred", end("(p:a:3)"), "complete", &[("a", 4), ("c", 2)]),
        ("server-intent", intent("none"), "up to date", &[("a", 4), ("c", 2)]),
        // The order counts, not the versions in objects.
        ("put-object", put("a", 3), "pending", &[("a", 4), ("c", 2)]),
        ("payload-transferred", end("(p:a:4)"), "complete", &[("a", 3), ("c", 2)]),
        ("server-intent", intent("xfer-full"), "pending", &[("a", 3), ("c", 2)]),
        ("put-object", put("d", 1), "pending", &[("a", 3), ("c", 2)]),
        // An intent begins anew.
        ("server-intent", intent("xfer-changes"), "pending", &[("a", 3), ("c", 2)]),
        ("payload-transferred", end(""), "complete", &[("a", 3), ("c", 2)]),
        ("goodbye", "not JSON".to_owned(), "goodbye", &[("a", 3), ("c", 2)]),
    ] {
        assert_eq!(receiver.receive(name, &data).as_deref(), Ok(led_to), "{name} {data}");
        assert_eq!(receiver.live(), pairs(live), "{name} {data}");
    }
    assert_eq!(receiver.selector, None, "the last state has no name");
}

#[test]
fn malformed_events_and_events_out_of_order_are_errors() {
    for (name, data, problem) in [
        ("server-intent", r#"{"payloads":[]}"#.to_owned(), "an intent without a payload"),
        ("server-intent", intent("half"), "unknown intent code `half`"),
        ("server-intent", intent("none"), "changes to data that was not sent"),
        ("server-intent", intent("xfer-changes"), "changes to data that was not sent"),
        ("server-intent", "{}".to_owned(), "malformed JSON (missing field `payloads`"),
        ("payload-transferred", end("s"), "the end of a transfer without an intent"),
        ("payload-transferred", r#"{"version":1}"#.to_owned(), "malformed JSON (missing field `state`"),
        ("put-object", r#"{"kind":"flag","key":"a"}"#.to_owned(), "required property `object` is missing"),
        ("put-object", r#"{"kind":"flag","key":"a","object":[]}"#.to_owned(), "flag `a`"),
        ("put-object", "{".to_owned(), "malformed JSON"),
        ("delete-object", r#"{"kind":"segment","key":"a"}"#.to_owned(), "required property `version` is missing"),
        ("delete-object", r#"{"kind":"segment","key":"a","version":"1"}"#.to_owned(), "malformed JSON"),
    ] {
        let error = Receiver::new().receive(name, &data).expect_err(&data);
        assert!(error.starts_with(problem), "{name} {data}: {error}");
    }
}

#[test]
fn an_empty_environment_is_transferred_and_a_discarded_one_is_not() {
    let mut receiver = Receiver::new();
    receiver.receive("server-intent", &intent("xfer-full")).unwrap();
    assert_eq!(receiver.receive("payload-transferred", &end("s")), Ok("complete"));
    receiver.receive("server-intent", &intent("xfer-full")).unwrap();
    receiver.receive("put-object", &put("a", 1)).unwrap();
    receiver.receive("error", "").unwrap();
    assert_eq!(receiver.receive("payload-transferred", &end("s")), Err("no complete transfer".to_owned()));
    // Objects after the error are a transfer.
    receiver.receive("server-intent", &intent("xfer-full")).unwrap();
    receiver.receive("error", "").unwrap();
    receiver.receive("put-object", &put("a", 1)).unwrap();
    assert_eq!(receiver.receive("payload-transferred", &end("s")), Ok("complete"));
    assert_eq!(receiver.live(), pairs(&[("a", 1)]));
}

#[test]
fn an_object_that_cannot_be_used_leaves_the_present_one() {
    let mut receiver = Receiver::new();
    for code in ["xfer-full", "xfer-full", "xfer-changes"] {
        receiver.receive("server-intent", &intent(code)).unwrap();
        let is_first = receiver.items.is_none();
        let bad = put("a", 1).replace(r#""version":1}"#, r#""version":1.5}"#);
        receiver.receive("put-object", &if is_first { put("a", 1) } else { bad }).unwrap();
        receiver.receive("put-object", &put("b", 1)).unwrap();
        assert_eq!(receiver.receive("payload-transferred", &end("s")), Ok("complete"));
        assert_eq!(receiver.live(), pairs(&[("a", 1), ("b", 1)]), "{code}");
    }
}

#[test]
fn a_tombstone_is_newer_than_its_item() {
    let mut receiver = Receiver::new();
    receiver.receive("server-intent", &intent("xfer-full")).unwrap();
    receiver.receive("put-object", &put("a", 70)).unwrap();
    receiver.receive("payload-transferred", &end("s")).unwrap();
    for _ in 0..2 {
        receiver.receive("delete-object", &delete("a", 53)).unwrap();
        receiver.receive("payload-transferred", &end("s")).unwrap();
        assert_eq!(receiver.flags(), [("a".to_owned(), 71, true)]);
    }
}

#[test]
fn a_transfer_has_a_largest_size() {
    let tombstone = || TransferEvent::Object(Item::tombstone(ItemKind::Flag, "a", 1));
    for size in [0, 1 << 20] {
        let mut transfer = Transfer::new(true);
        transfer.push(TransferEvent::Intent(Intent::Changes), 100).unwrap();
        let most = MAX_TRANSFER / (OBJECT_OVERHEAD + size);
        assert!((0..most).all(|_| transfer.push(tombstone(), size).is_ok()));
        assert!(matches!(transfer.push(tombstone(), size), Err(TransferError::TooLarge)), "{size}");
        // A new intent begins anew.
        transfer.push(TransferEvent::Intent(Intent::Changes), 100).unwrap();
        assert!(transfer.push(tombstone(), size).is_ok());
    }
}

#[test]
fn selectors_that_are_too_long_are_not_used() {
    assert_eq!(Selector::new(""), None);
    assert!(Selector::new(&"s".repeat(MAX_SELECTOR)).is_some());
    assert_eq!(Selector::new(&"s".repeat(MAX_SELECTOR + 1)), None);
}

#[test]
fn the_response_to_a_poll_is_complete_or_an_error() {
    let event = |name: &str, data: &str| format!(r#"{{"event":"{name}","data":{data}}}"#);
    let full = [event("server-intent", &intent("xfer-full")), event("put-object", &put("a", 1))];
    let none = event("server-intent", &intent("none"));
    let end = event("payload-transferred", &end("s"));
    for (events, has_basis, complete) in [
        (vec![&full[0], &full[1], &end], false, Some(1)),
        (vec![&none], true, Some(0)),
        (vec![&none], false, None),
        (vec![], true, None),
        (vec![&full[0], &full[1]], true, None),
        (vec![&full[0], &full[1], &end, &full[1]], true, None),
        (vec![&full[0], &full[1], &end, &full[1], &end], true, Some(2)),
        (vec![&end], true, None),
    ] {
        let events: Vec<_> = events.into_iter().cloned().collect();
        let body = format!("{{\"events\":[\n{}]}}", events.join(",\n"));
        let steps = poll(body.clone(), has_basis).ok();
        let sets = steps.map(|all| all.iter().filter(|it| matches!(it, Step::Complete(_))).count());
        assert_eq!(sets, complete, "{body}");
    }
    for body in ["", "{}", "[]", r#"{"events":[{}]}"#, r#"{"events":[{"event":"put-object"}]}"#] {
        assert!(poll(body.to_owned(), true).is_err(), "{body}");
    }
}

/// An event by its number, and the keys and versions in it.
fn any_event() -> impl Strategy<Value = (usize, u8, i64)> {
    (0..9_usize, 0..4_u8, 0..5_i64)
}

proptest! {
    /// U048, U049, U051: whatever the order of events, the data is that of the last complete change set, by a model that
    /// knows nothing of items.
    #[test]
    fn any_events_leave_old_or_complete_new_data(events in prop::collection::vec(any_event(), 0..60)) {
        let mut receiver = Receiver::new();
        let mut visible = std::collections::BTreeMap::<String, i64>::new();
        let mut pending = None::<std::collections::BTreeMap<String, i64>>;
        for (number, key, version) in events {
            let key = format!("f{key}");
            let before = receiver.live();
            let (name, data) = match number {
                0..=2 => ("server-intent", intent(INTENTS[number])),
                3 | 4 => ("put-object", put(&key, version)),
                5 => ("delete-object", delete(&key, version)),
                6 => ("payload-transferred", end("s")),
                7 => ("error", "{}".to_owned()),
                _ => ("put-object", "{".to_owned()),
            };
            let received = receiver.receive(name, &data);
            let Ok(received) = received else {
                prop_assert_eq!(receiver.live(), before);
                return Ok(());
            };
            match number {
                1 => pending = Some(Default::default()),
                0 | 2 => pending = Some(visible.clone()),
                // Collected objects are dropped; what they refer to stays.
                7 => pending = pending.map(|_| if receiver.transfer.mode == Some(Mode::Everything) {
                    Default::default()
                } else {
                    visible.clone()
                }),
                3 | 4 => { pending.as_mut().map(|it| it.insert(key, version)); }
                5 => { pending.as_mut().map(|it| it.remove(&key)); }
                _ => visible = pending.clone().expect("an intent came first"),
            }
            prop_assert_eq!(received == "complete", number == 6);
            let expected: Vec<_> = visible.iter().map(|(key, version)| (key.clone(), *version)).collect();
            prop_assert_eq!(receiver.live(), expected);
        }
    }
}
