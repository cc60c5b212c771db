use serde_json::value::RawValue;
use yardarm_core::change_log::{Cursor, UpdateSource, Version};
use yardarm_core::{Environment, environment};
use yardarm_launchdarkly_eval::model::{Flag, Segment};

use super::super::items::Item;
use super::*;

fn flag(key: &str, version: i64) -> Item {
    let json = format!(r#"{{"key":"{key}","version":{version},"x-unknown":1.50}}"#);
    Item::Flag(Arc::new(Flag::parse(key, &RawValue::from_string(json).unwrap()).unwrap()))
}

fn gone(key: &str, version: i64) -> Item {
    Item::Flag(Arc::new(Flag::tombstone(key, version)))
}

fn put(items: &[Item]) -> Change {
    let mut all = Items::default();
    items.iter().for_each(|item| all.insert(item.clone()));
    Change::Put(all)
}

/// An open stream.
struct Stream(
    Arc<dyn UpdateSource>,
    Cursor,
    #[expect(dead_code, reason = "what wakes the stream")] tokio::sync::watch::Receiver<Version>,
);

impl Stream {
    fn open(environment: &Environment<FlagData>, channel: Channel) -> Self {
        let source = environment.update_source();
        let versions = source.versions();
        let cursor = Cursor::new(channel as usize, *versions.borrow());
        Self(source, cursor, versions)
    }

    fn received(&mut self) -> Vec<String> {
        let next = || self.0.next(&mut self.1).map(|it| String::from_utf8(it.payload().to_vec()).unwrap());
        std::iter::from_fn(next).collect()
    }
}

#[test]
fn streams_are_sent_changes() {
    let (mut writer, environment) = environment::<FlagData>();
    let channels = [Channel::All, Channel::Flags, Channel::Ping];
    let mut streams = channels.map(|channel| Stream::open(&environment, channel));
    let a1 = r#"{"key":"a","version":1,"x-unknown":1.50}"#;
    let a2 = r#"{"key":"a","version":2,"x-unknown":1.50}"#;
    let cases: [(Change, [String; 3]); 3] = [
        (
            put(&[gone("z", 9), flag("a", 1)]),
            [
                format!(
                    "event: put\ndata: {{\"path\":\"/\",\"data\":{{\"flags\":{{\"a\":{a1}}},\"segments\":{{}}}}}}\n\n"
                ),
                format!("event: put\ndata: {{\"a\":{a1}}}\n\n"),
                "event: ping\ndata:  \n\n".to_owned(),
            ],
        ),
        (
            Change::Patch(flag("a", 2)),
            [
                format!("event: patch\ndata: {{\"path\":\"/flags/a\",\"data\":{a2}}}\n\n"),
                format!("event: patch\ndata: {{\"path\":\"/a\",\"data\":{a2}}}\n\n"),
                "event: ping\ndata:  \n\n".to_owned(),
            ],
        ),
        (
            Change::Patch(gone("a", 4)),
            [
                "event: delete\ndata: {\"path\":\"/flags/a\",\"version\":4}\n\n".to_owned(),
                "event: delete\ndata: {\"path\":\"/a\",\"version\":4}\n\n".to_owned(),
                "event: ping\ndata:  \n\n".to_owned(),
            ],
        ),
    ];
    for (change, expected) in cases {
        writer.update(&change);
        for (stream, expected) in streams.iter_mut().zip(expected) {
            assert_eq!(stream.received(), [expected]);
        }
    }
}

#[test]
fn segments_are_not_sent_on_flags() {
    let (mut writer, environment) = environment::<FlagData>();
    writer.update(&put(&[]));
    let mut stream = Stream::open(&environment, Channel::Flags);
    stream.received();
    writer.update(&Change::Patch(Item::Segment(Arc::new(Segment::tombstone("s", 1)))));
    assert!(stream.received().is_empty());
}

#[test]
fn changes_of_big_segments_are_sent_as_pings_only() {
    let (mut writer, environment) = environment::<FlagData>();
    assert!(!writer.update(&Change::SegmentsChanged));
    assert!(environment.snapshot().is_none(), "there is nothing to announce before there is data");
    writer.update(&put(&[flag("a", 1)]));
    let mut streams = [Channel::All, Channel::Flags, Channel::Ping].map(|channel| Stream::open(&environment, channel));
    let received =
        |streams: &mut [Stream; 3]| -> Vec<usize> { streams.iter_mut().map(|it| it.received().len()).collect() };
    received(&mut streams);
    assert!(!writer.update(&Change::SegmentsChanged));
    assert_eq!(received(&mut streams), [0, 0, 1]);
    writer.update(&Change::Patch(flag("a", 2)));
    assert_eq!(received(&mut streams), [1, 1, 1], "nothing is repeated");
}

#[test]
fn tags_are_those_of_the_reference() {
    // L154 and L155.
    let tag = |items: &[Item]| match FlagData::apply(None, &put(items)) {
        Applied::News(data) => data.flags_tag().to_owned(),
        _ => String::new(),
    };
    assert_eq!(tag(&[]), "da39a3ee5e6b4b0");
    assert_eq!(tag(&[flag("plain", 3)]), "7958a0a3e057e9d");
}

proptest::proptest! {
    /// The newest version of each flag remains, for every order of patches and deletes.
    #[test]
    fn the_newest_version_wins(changes in proptest::collection::vec((0_u8..4, 0_i64..12, proptest::bool::ANY), 1..60)) {
        let (mut writer, environment) = environment::<FlagData>();
        writer.update(&put(&[]));
        let mut newest = std::collections::BTreeMap::<String, (i64, bool)>::new();
        for (key, version, is_gone) in changes {
            let key = key.to_string();
            writer.update(&Change::Patch(if is_gone { gone(&key, version) } else { flag(&key, version) }));
            let entry = newest.entry(key).or_insert((-1, true));
            if version > entry.0 {
                *entry = (version, is_gone);
            }
        }
        let snapshot = environment.snapshot().unwrap();
        for (key, (version, is_gone)) in newest {
            let found = snapshot.data().items().flag(&key).map(|it| it.version());
            proptest::prop_assert_eq!(found, (!is_gone).then_some(version));
        }
    }
}
