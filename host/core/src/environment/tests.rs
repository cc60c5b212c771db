use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::EnvironmentLabel;

/// A number that only grows; channel 0 receives all changes, channel 1 only those to even numbers.
struct Number(u32);

impl Dataset for Number {
    type Change = u32;
    const CHANNELS: usize = 2;
    const IS_LOGGED_UNREAD: bool = false;

    fn apply(current: Option<&Self>, change: &u32) -> Applied<Self> {
        match current {
            Some(Number(now)) if now >= change => Applied::AnnounceOnly,
            _ => Applied::News(Number(*change)),
        }
    }

    fn render_change(change: &u32, channel: usize) -> Option<Frame> {
        (channel == 0 || change.is_multiple_of(2)).then(|| frame("patch", *change))
    }

    fn is_restart(change: &u32) -> bool {
        change.is_multiple_of(1000)
    }

    fn render_full(&self, _: usize) -> Option<Frame> {
        Some(frame("put", self.0))
    }
}

fn frame(name: &str, number: u32) -> Frame {
    Frame::build(16, |buffer| buffer.extend_from_slice(format!("{name} {number}").as_bytes()))
}

/// A stream: the source, its cursor, and the receiver that wakes it.
struct Reader(Arc<dyn UpdateSource>, Cursor, watch::Receiver<Version>);

impl Reader {
    fn new(environment: &Environment<Number>, channel: usize) -> Self {
        let source = environment.update_source();
        let versions = source.versions();
        let cursor = Cursor::new(channel, *versions.borrow());
        Self(source, cursor, versions)
    }

    fn next_data(&mut self) -> Option<String> {
        let frame = self.0.next(&mut self.1)?;
        Some(String::from_utf8(frame.payload().to_vec()).unwrap())
    }

    fn all_data(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.next_data()).collect()
    }
}

#[test]
fn labels_name_vendor_and_environment() {
    let label = EnvironmentLabel::new("launchdarkly", "production");
    assert_eq!((label.vendor(), &**label.name()), ("launchdarkly", "production"));
    assert_ne!(label, EnvironmentLabel::new("harness", "production"));
}

#[test]
fn snapshots_are_numbered_and_there_is_none_before_the_first_change() {
    let (mut writer, environment) = environment::<Number>();
    assert!(!environment.has_data());
    writer.update(&1);
    assert!(environment.has_data());
    let first = environment.snapshot().unwrap();
    assert!(Arc::ptr_eq(&first, &writer.snapshot().unwrap()));
    assert!(first.seq() > 0);
    writer.update(&2);
    let second = environment.snapshot().unwrap();
    assert!(second.seq() > first.seq(), "{} and {}", first.seq(), second.seq());
    assert_eq!((first.data().0, second.data().0), (1, 2));
}

/// Data that counts how often it is rendered.
struct Counted(Arc<AtomicUsize>);

impl Dataset for Counted {
    type Change = Arc<AtomicUsize>;
    const CHANNELS: usize = 1;

    fn apply(_: Option<&Self>, change: &Arc<AtomicUsize>) -> Applied<Self> {
        Applied::News(Self(Arc::clone(change)))
    }

    fn render_change(_: &Arc<AtomicUsize>, _: usize) -> Option<Frame> {
        None
    }

    fn render_full(&self, _: usize) -> Option<Frame> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Some(frame("put", 1))
    }
}

#[test]
fn full_renderings_are_freed_when_they_are_not_used_any_more() {
    let (mut writer, environment) = environment::<Counted>();
    let count = Arc::<AtomicUsize>::default();
    writer.update(&count);
    let renderings_after_two_streams = || {
        for _ in 0..2 {
            let mut cursor = Cursor::new(0, Version::default());
            assert!(environment.0.next(&mut cursor).is_some());
        }
        count.load(Ordering::Relaxed)
    };
    assert_eq!(renderings_after_two_streams(), 1, "rendered once for all");
    environment.release_unused();
    assert_eq!(renderings_after_two_streams(), 1, "used since the last call");
    environment.release_unused();
    environment.release_unused();
    assert_eq!(renderings_after_two_streams(), 2, "freed, and rendered again");
}

#[test]
fn a_stream_gets_everything_first_and_changes_afterwards() {
    let (mut writer, environment) = environment::<Number>();
    let mut early = Reader::new(&environment, 0);
    assert_eq!(early.next_data(), None);
    writer.update(&1);
    let mut late = Reader::new(&environment, 0);
    writer.update(&2);
    assert_eq!(early.all_data(), ["put 2"]);
    writer.update(&3);
    assert_eq!(early.all_data(), ["patch 3"]);
    assert_eq!(late.all_data(), ["put 3"]);
}

#[test]
fn a_slow_stream_jumps_to_the_newest_data() {
    let (mut writer, environment) = environment::<Number>();
    writer.update(&1);
    let mut stream = Reader::new(&environment, 0);
    assert_eq!(stream.all_data(), ["put 1"]);
    for number in (2..=2500).filter(|it| it % 1000 != 0) {
        writer.update(&number);
    }
    assert_eq!(stream.all_data(), ["put 2500"]);
    writer.update(&2501);
    assert_eq!(stream.all_data(), ["patch 2501"]);
}

#[test]
fn a_log_keeps_within_the_limits_it_was_given() {
    let (mut writer, environment) = environment_with::<Number>(LogLimits { changes: 2, bytes: 1 << 10 });
    writer.update(&1);
    let mut stream = Reader::new(&environment, 0);
    assert_eq!(stream.all_data(), ["put 1"]);
    for number in 2..=3 {
        writer.update(&number);
    }
    assert_eq!(stream.all_data(), ["patch 2", "patch 3"]);
    for number in 4..=6 {
        writer.update(&number);
    }
    assert_eq!(stream.all_data(), ["put 6"]);
}

#[test]
fn a_log_holds_as_many_bytes_as_it_may_and_forgets_the_oldest() {
    // Even numbers go to both channels, so each of these pairs of changes takes three frames of one size.
    let bytes = 3 * frame("patch", 10).chunk().len();
    let (mut writer, environment) = environment_with::<Number>(LogLimits { changes: 99, bytes });
    writer.update(&10);
    let (mut quick, mut slow) = (Reader::new(&environment, 0), Reader::new(&environment, 0));
    assert_eq!((quick.all_data(), slow.all_data()), (vec!["put 10".to_owned()], vec!["put 10".to_owned()]));
    for number in (12..30).step_by(2) {
        writer.update(&number);
        writer.update(&(number + 1));
        assert_eq!(quick.all_data(), [format!("patch {number}"), format!("patch {}", number + 1)]);
    }
    assert_eq!(slow.all_data(), ["put 29"]);
}

#[test]
fn a_change_too_large_for_the_log_is_not_lost() {
    let (mut writer, environment) = environment_with::<Number>(LogLimits { changes: 9, bytes: 4 });
    writer.update(&1);
    let mut stream = Reader::new(&environment, 0);
    assert_eq!(stream.all_data(), ["put 1"]);
    writer.update(&2);
    assert_eq!(environment.update_source().lag(&stream.1), 1);
    assert_eq!(stream.all_data(), ["put 2"]);
    assert_eq!(stream.all_data(), Vec::<String>::new());
}

#[test]
fn nothing_is_rendered_for_a_log_that_no_stream_reads() {
    let (mut writer, environment) = environment::<Number>();
    writer.update(&1);
    let mut stream = Reader::new(&environment, 0);
    assert_eq!(stream.all_data(), ["put 1"]);
    let Reader(source, mut cursor, versions) = stream;
    drop(versions);
    writer.update(&2);
    assert_eq!(source.lag(&cursor), 1);
    let frame = source.next(&mut cursor).unwrap();
    assert_eq!(frame.payload(), &b"put 2"[..], "the change is not in the log, so the full data is read");
}

#[test]
fn after_a_restart_every_stream_reads_the_full_data_once() {
    let (mut writer, environment) = environment::<Number>();
    writer.update(&1);
    let (mut quick, mut slow) = (Reader::new(&environment, 0), Reader::new(&environment, 0));
    quick.all_data();
    slow.all_data();
    writer.update(&2);
    assert_eq!(quick.all_data(), ["patch 2"]);
    writer.update(&1000);
    assert_eq!(quick.all_data(), ["put 1000"]);
    writer.update(&1001);
    assert_eq!(quick.all_data(), ["patch 1001"]);
    assert_eq!(slow.all_data(), ["put 1001"], "and nothing of what came before");
}

#[test]
fn a_burst_within_the_log_arrives_whole_and_in_order() {
    let (mut writer, environment) = environment::<Number>();
    writer.update(&0);
    let mut stream = Reader::new(&environment, 0);
    stream.all_data();
    for number in 1..=999 {
        writer.update(&number);
    }
    let expected: Vec<_> = (1..=999).map(|number| format!("patch {number}")).collect();
    assert_eq!(stream.all_data(), expected);
}

#[test]
fn a_channel_receives_only_its_own_changes() {
    let (mut writer, environment) = environment::<Number>();
    writer.update(&1);
    let mut stream = Reader::new(&environment, 1);
    stream.all_data();
    for number in 2..=5 {
        writer.update(&number);
    }
    assert_eq!(stream.all_data(), ["patch 2", "patch 4"]);
    assert_eq!(environment.update_source().lag(&stream.1), 0);
}

#[test]
fn an_old_change_is_announced_but_not_stored() {
    let (mut writer, environment) = environment::<Number>();
    assert!(writer.update(&5));
    let mut stream = Reader::new(&environment, 0);
    stream.all_data();
    assert!(!writer.update(&4));
    assert_eq!(stream.all_data(), ["patch 4"]);
    assert_eq!(environment.snapshot().unwrap().data().0, 5);
}

#[test]
fn swap_before_publish() {
    let (mut writer, environment) = environment::<Number>();
    writer.update(&1);
    let mut stream = Reader::new(&environment, 0);
    stream.all_data();
    let versions = environment.update_source().versions();
    writer.update(&2);
    assert!(versions.has_changed().unwrap());
    assert_eq!(environment.snapshot().unwrap().data().0, 2);
}

#[test]
fn the_full_rendering_is_shared() {
    let (mut writer, environment) = environment::<Number>();
    writer.update(&1);
    let frames: Vec<_> = (0..2)
        .map(|_| {
            let source = environment.update_source();
            let mut cursor = Cursor::new(0, Version::default());
            source.next(&mut cursor).unwrap()
        })
        .collect();
    assert_eq!(frames[0].chunk().as_ptr(), frames[1].chunk().as_ptr());
}

#[test]
fn heartbeats_reach_streams_with_and_without_data() {
    let (mut writer, environment) = environment::<Number>();
    let mut stream = Reader::new(&environment, 0);
    environment.heartbeat();
    assert_eq!(stream.all_data(), [":\n"]);
    writer.update(&1);
    environment.heartbeat();
    assert_eq!(stream.all_data(), ["put 1", ":\n"]);
}

proptest::proptest! {
    /// Whatever changes arrive in whatever order, and however seldom a stream is read, its last message contains the
    /// newest data or a change that was announced after it.
    #[test]
    fn a_stream_never_ends_up_behind(changes in proptest::collection::vec(0_u32..50, 1..200), reads in proptest::collection::vec(proptest::bool::ANY, 200)) {
        let (mut writer, environment) = environment::<Number>();
        let mut stream = Reader::new(&environment, 0);
        let mut seen = 0;
        for (change, read) in changes.iter().zip(&reads) {
            writer.update(change);
            if *read {
                for message in stream.all_data() {
                    let number: u32 = message.split(' ').nth(1).unwrap().parse().unwrap();
                    seen = seen.max(number);
                }
            }
        }
        for message in stream.all_data() {
            let number: u32 = message.split(' ').nth(1).unwrap().parse().unwrap();
            seen = seen.max(number);
        }
        proptest::prop_assert_eq!(seen, *changes.iter().max().unwrap());
        proptest::prop_assert_eq!(environment.snapshot().unwrap().data().0, seen);
    }
}
