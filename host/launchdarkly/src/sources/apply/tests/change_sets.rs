//! Change sets of FDv2, with a plugin and without one.

use super::*;
use crate::data::transfer::{self, Step, Transfer};

impl Setup {
    /// Applies a change set of these flags; a number in place of a flag is the version of a deleted flag `b`.
    async fn transfers(&mut self, code: &str, flags: &[Value], state: &str) {
        let intent = json!({"payloads": [{"intentCode": code}]});
        let objects = flags.iter().map(|flag| match flag.as_i64() {
            Some(version) => ("delete-object", json!({"kind": "flag", "key": "b", "version": version})),
            None => ("put-object", json!({"kind": "flag", "key": flag["key"], "object": flag})),
        });
        let end = ("payload-transferred", json!({"state": state}));
        let mut transfer = Transfer::new(true);
        for (name, data) in [("server-intent", intent)].into_iter().chain(objects).chain([end]) {
            let event = transfer::parse(name, data.to_string()).expect("a valid event");
            if let Step::Complete(set) = transfer.push(event, 100).expect("an event in order") {
                self.applier.apply_change_set(set).await;
            }
        }
    }

    fn basis(&self) -> Option<&str> {
        self.applier.basis().map(transfer::Selector::as_str)
    }
}

#[tokio::test]
async fn a_change_set_is_transformed_as_a_whole() {
    let mut setup = Setup::with(&[flag("a", 1), flag("b", 1), rate(1, 10)]).await;
    setup.transfers("xfer-changes", &[flag("a", 2), rate(2, 20)], "two").await;
    assert_eq!(setup.passes(), [["a", "b", "rate"]], "once");
    let all = [with_rate("a", 2, 20), with_rate("b", 1, 20), rate(2, 20)];
    assert_eq!(setup.received(), [put_event(&all)], "nothing between");
    // One item is transformed like that of a `patch`.
    setup.transfers("xfer-changes", &[flag("a", 3)], "three").await;
    assert_eq!(setup.passes(), [["a"]]);
    assert_eq!(setup.received(), [patch_event(&with_rate("a", 3, 20))]);
    assert_eq!(setup.basis(), Some("three"));
}

#[tokio::test]
async fn only_differences_are_announced() {
    let mut setup = Setup::without_plugin();
    setup.transfers("xfer-full", &[flag("a", 1), flag("b", 1)], "one").await;
    assert_eq!(setup.received(), [put_event(&[flag("a", 1), flag("b", 1)])]);
    for code in ["xfer-full", "xfer-changes"] {
        setup.transfers(code, &[flag("a", 1), flag("b", 1)], code).await;
        assert_eq!((setup.received(), setup.basis()), (Vec::new(), Some(code)));
    }
    setup.transfers("xfer-changes", &[json!(7), flag("a", 2)], "two").await;
    let mut received = setup.received();
    assert_eq!(received.len(), 1, "one frame");
    assert_eq!(received.remove(0), patch_event(&flag("a", 2)));
    setup.transfers("xfer-changes", &[flag("b", 3)], "three").await;
    assert_eq!(setup.received(), [put_event(&[flag("a", 2), flag("b", 3)])], "it begins anew with a lower version");
}

#[tokio::test]
async fn data_from_elsewhere_has_no_known_state() {
    let mut setup = Setup::without_plugin();
    for number in 0..3 {
        setup.transfers("xfer-full", &[flag("a", 1)], "one").await;
        assert_eq!(setup.basis(), Some("one"));
        let held = setup.applier.upstream_items().expect("data");
        match number {
            0 => setup.put(&[flag("a", 1)]).await,
            1 => setup.patch(&flag("a", 2)).await,
            _ => setup.applier.restore(held).await,
        }
        assert_eq!(setup.basis(), None);
    }
    setup.transfers("xfer-full", &[flag("a", 1)], "").await;
    assert_eq!(setup.basis(), None, "a state without a name");
}

#[tokio::test]
async fn a_state_with_refused_items_does_not_outlive_the_process() {
    let mut setup = Setup::without_plugin();
    let bad = json!({"key": "bad", "version": 1.5});
    for (code, flags, is_exact) in [
        ("xfer-full", vec![flag("a", 1), bad], false),
        ("xfer-changes", vec![flag("a", 2)], false),
        ("xfer-full", vec![flag("a", 2)], true),
    ] {
        setup.transfers(code, &flags, "state").await;
        assert_eq!(setup.basis(), Some("state"));
        assert_eq!(setup.applier.basis.exact().is_some(), is_exact, "{code} {flags:?}");
    }
}
