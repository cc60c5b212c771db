//! Changes of one Big Segment's memberships from upstream.

use serde::Deserialize;
use yardarm_launchdarkly_eval::model::normalize_json;
use yardarm_store::MembershipPatch;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    segment_id: String,
    // Go's reader treats `null` as empty.
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    previous_version: Option<String>,
    #[serde(default)]
    changes: Option<Changes>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Changes {
    included: Option<MembershipChange>,
    excluded: Option<MembershipChange>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct MembershipChange {
    add: Option<Vec<String>>,
    remove: Option<Vec<String>>,
}

/// Parses the patches of a poll or of an event.
///
/// # Errors
/// When the text is not a list of patches.
pub(super) fn parse(text: &str) -> Result<Vec<MembershipPatch>, serde_json::Error> {
    let patches: Option<Vec<Wire>> = serde_json::from_str(&normalize_json(text))?;
    Ok(patches.unwrap_or_default().into_iter().map(Wire::into_patch).collect())
}

impl Wire {
    fn into_patch(self) -> MembershipPatch {
        let changes = self.changes.unwrap_or_default();
        let (included, excluded) = (changes.included.unwrap_or_default(), changes.excluded.unwrap_or_default());
        MembershipPatch {
            previous: self.previous_version.unwrap_or_default(),
            version: self.version.unwrap_or_default(),
            group: self.segment_id,
            include: included.add.unwrap_or_default(),
            forget_included: included.remove.unwrap_or_default(),
            exclude: excluded.add.unwrap_or_default(),
            forget_excluded: excluded.remove.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_are_read_with_their_gaps() {
        let text = r#"[
            {"environmentId": "e", "segmentId": "s.g2", "version": "2", "previousVersion": "1", "changes": {
                "included": {"add": ["a"], "remove": ["b"]}, "excluded": {"add": ["c"], "remove": ["d"]}}},
            {"segmentId": "t.g1", "version": "3", "changes": {"included": {"add": null}, "excluded": null}}
        ]"#;
        let [first, second] = &parse(text).expect("patches")[..] else { panic!("two patches") };
        let one = |key: &str| vec![key.to_owned()];
        let expected = MembershipPatch {
            previous: "1".to_owned(),
            version: "2".to_owned(),
            group: "s.g2".to_owned(),
            include: one("a"),
            forget_included: one("b"),
            exclude: one("c"),
            forget_excluded: one("d"),
        };
        assert_eq!(*first, expected);
        let expected =
            MembershipPatch { version: "3".to_owned(), group: "t.g1".to_owned(), ..MembershipPatch::default() };
        assert_eq!(*second, expected);
        assert_eq!(parse("null").expect("no patches"), []);
        let text = r#"[{"segmentId": "s", "version": null, "previousVersion": null, "changes": null}]"#;
        let nothing = MembershipPatch { group: "s".to_owned(), ..MembershipPatch::default() };
        assert_eq!(parse(text).expect("a patch"), [nothing]);
        assert_eq!(parse("[{\"segmentId\":\"a\\ud800\tb\"}]").expect("a patch")[0].group, "a\u{fffd}\tb");
        for broken in ["", "{}", r#"[{"version":"1"}]"#, r#"[{"segmentId":1}]"#] {
            assert!(parse(broken).is_err(), "{broken}");
        }
    }
}
