//! Random streams in random pieces, decoded by this crate and by `eventsource-parser` for Node, an independent
//! implementation of the same standard: the results must be equal.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use eventsource_stream::{Decoder, EventKind};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

/// Number of streams, which are compared in one run of the other parser.
const STREAMS: usize = 20_000;

/// Fragments of streams: syntax, near misses, and invalid UTF-8.
const PARTS: &[&[u8]] = &[
    b"data: x\n",
    b"\ndata: y\r\n",
    b"\rdata:z\n\n",
    b"event: put\r",
    b"\nid: 7\n",
    b"\nretry: 5\n",
    b"\n: comment\n",
    b"data",
    b"data:",
    b"data: ",
    b"event:",
    b"event: ",
    b"event",
    b"id",
    b"id:",
    b"id: ",
    b"retry:",
    b"retry: ",
    b"retry",
    b":",
    b": ",
    b" ",
    b"\n",
    b"\n",
    b"\r",
    b"\r",
    b"\r\n",
    b"\r\n",
    b"\n\n",
    b"\r\r",
    b"\r\n\r\n",
    b"17",
    b"0",
    b"99999999999999999999",
    b"-1",
    b"\0",
    b"x",
    b"y",
    b"da",
    b"Data:",
    b"\xef\xbb\xbf",
    b"\xef",
    b"\xbb",
    b"\xe2\x82\xac",
    b"\xe2\x82",
    b"\xf0\x9f\x92\xa9",
    b"\xf0\x9f",
    b"\xff",
    b"\xc3",
    b"\x80",
    b"\xed\xa0\x80",
];

fn streams() -> Vec<Vec<Vec<u8>>> {
    let parts = proptest::collection::vec(proptest::sample::select(PARTS), 0..30);
    let stream = (parts, proptest::collection::vec(1..9_usize, 1..6)).prop_map(|(parts, lengths)| {
        let stream = parts.concat();
        let mut rest = &stream[..];
        let mut pieces = Vec::new();
        for length in lengths.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, behind) = rest.split_at((*length).min(rest.len()));
            pieces.push(piece.to_vec());
            rest = behind;
        }
        pieces
    });
    // Deterministic, so that a difference is reproducible.
    let mut runner = TestRunner::deterministic();
    (0..STREAMS).map(|_| stream.new_tree(&mut runner).expect("a stream").current()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn ours(pieces: &[Vec<u8>]) -> String {
    let mut decoder = Decoder::new();
    let mut events = VecDeque::new();
    pieces.iter().for_each(|it| decoder.feed(it, &mut events).expect("small events"));
    let one = |event: &eventsource_stream::Event| match (event.kind, event.retry) {
        (EventKind::Message, _) => Some(format!(
            "m:{}:{}:{}",
            hex(event.event.as_bytes()),
            hex(event.data.as_bytes()),
            hex(event.id.as_bytes())
        )),
        (EventKind::Comment, _) => Some("c".to_owned()),
        (EventKind::Settings, Some(time)) if time.as_millis() < 1 << 53 => Some(format!("r:{}", time.as_millis())),
        (EventKind::Settings, Some(_)) => Some("r:large".to_owned()),
        (EventKind::Settings | EventKind::Progress, _) => None,
    };
    events.iter().filter_map(one).collect::<Vec<_>>().join(" ")
}

#[test]
fn it_agrees_with_another_implementation() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/sdks/node"));
    let is_installed = folder.join("node_modules/eventsource-parser").exists();
    assert!(is_installed || std::env::var_os("CI").is_none(), "run `make setup` first");
    if !is_installed {
        println!("skipped: eventsource-parser is not installed, run `make setup`");
        return;
    }
    let streams = streams();
    let lines: String =
        streams.iter().map(|pieces| pieces.iter().map(|it| hex(it)).collect::<Vec<_>>().join(",") + "\n").collect();
    let mut node = Command::new("node")
        .arg(folder.join("sse.mjs"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node starts");
    let mut input = node.stdin.take().expect("a pipe");
    let writing = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = node.wait_with_output().expect("node ends");
    writing.join().expect("no panic").expect("node reads everything");
    let output = String::from_utf8(output.stdout).expect("text");
    let theirs: Vec<_> = output.lines().collect();
    assert_eq!(theirs.len(), streams.len());
    let mut yields = 0;
    for (pieces, theirs) in streams.iter().zip(theirs) {
        let ours = ours(pieces);
        assert_eq!(ours, theirs, "{:?}", pieces.iter().map(|it| it.escape_ascii().to_string()).collect::<Vec<_>>());
        yields += ours.split_whitespace().count();
    }
    assert!(yields > STREAMS / 2, "streams that yield something: {yields}");
}
