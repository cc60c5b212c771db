use proptest::prelude::*;

use super::*;

/// Describes the events of a stream: `type=data` for messages, the kind for others.
fn decode(stream: &[u8]) -> Vec<String> {
    shown(&events_of(stream, stream.len().max(1)))
}

fn events_of(stream: &[u8], piece: usize) -> Vec<Event> {
    let mut decoder = Decoder::new();
    let mut events = VecDeque::new();
    stream.chunks(piece).for_each(|it| decoder.feed(it, &mut events).expect("small events"));
    without_progress(events)
}

/// Removes progress events, the only ones that depend on the pieces.
fn without_progress(events: VecDeque<Event>) -> Vec<Event> {
    events.into_iter().filter(|it| it.kind != EventKind::Progress).collect()
}

fn shown(events: &[Event]) -> Vec<String> {
    let one = |event: &Event| match event.kind {
        EventKind::Message => format!("{}={}", event.event, event.data),
        EventKind::Comment => "comment".to_owned(),
        EventKind::Settings => format!("id {:?} retry {:?}", event.id, event.retry.map(|it| it.as_millis())),
        EventKind::Progress => "progress".to_owned(),
    };
    events.iter().map(one).collect()
}

#[test]
fn fields_are_parsed_as_in_the_standard() {
    for (stream, expected) in [
        // Examples of the standard.
        ("data: YHOO\ndata: +2\ndata: 10\n\n", &["message=YHOO\n+2\n10"][..]),
        (
            ": test\n\ndata: a\nid: 1\n\ndata:b\nid\n\ndata:  c\n\n",
            &["comment", "message=a", "message=b", "message= c"],
        ),
        ("data\n\ndata\ndata\n\ndata:", &["message=", "message=\n"]),
        ("data:test\n\ndata: test\n\n", &["message=test", "message=test"]),
        // Types.
        ("event: put\ndata: x\n\n", &["put=x"]),
        ("event:put\nevent: patch\ndata:x\n\n", &["patch=x"]),
        ("event: put\nevent\ndata:x\n\n", &["message=x"]),
        ("event: put\n\ndata: x\n\n", &["message=x"]),
        ("event:  put \ndata: x\n\n", &[" put =x"]),
        // Without data there is no message.
        ("event: put\nid: 1\n\n", &[r#"id "1" retry None"#]),
        ("\n\n\n", &[]),
        ("data: unfinished\n", &[]),
        ("data: unfinished", &[]),
        // Names are exact, and unknown fields are ignored.
        ("Data: x\nDATA: x\n data: x\ndata : x\ndataa: x\ndat: x\nd: x\nda\n\n", &[]),
        ("data: a\nother: b\nevents: c\ndata: d\n\n", &["message=a\nd"]),
        ("data:a:b\n\n", &["message=a:b"]),
        ("data::\n\n", &["message=:"]),
        ("data:\u{0}\n\n", &["message=\u{0}"]),
        ("data:\ta\n\n", &["message=\ta"]),
        // Reconnection times take effect at once and contain digits only.
        ("retry: 7\n\n", &[r#"id "" retry Some(7)"#]),
        ("retry:7", &[]),
        ("retry: 7\n", &[r#"id "" retry Some(7)"#]),
        ("retry\n\nretry:\n\nretry: \n\nretry: -1\n\nretry: 1.5\n\nretry: +1\n\nretry:  1\n\nretry: 1 \n\n", &[]),
        ("retry: 1e3\n\nretry: 0x1\n\nretry: ١\n\n", &[]),
        ("retry: 00010\n\n", &[r#"id "" retry Some(10)"#]),
        ("retry: 99999999999999999999999\n\n", &[r#"id "" retry Some(18446744073709551615)"#]),
        // Comments.
        (":\n", &["comment"]),
        (": no end of line", &[]),
        (":data: x\n\n", &["comment"]),
        ("data: a\n: between\ndata: b\n\n", &["comment", "message=a\nb"]),
    ] {
        assert_eq!(decode(stream.as_bytes()), expected, "{stream:?}");
    }
}

#[test]
fn every_line_end_counts_also_in_pieces() {
    for end in ["\n", "\r", "\r\n"] {
        let stream = format!(":{end}event: a{end}data: 1{end}data: 2{end}{end}data: 3{end}{end}");
        for piece in 1..=stream.len() {
            let shown = shown(&events_of(stream.as_bytes(), piece));
            assert_eq!(shown, ["comment", "a=1\n2", "message=3"], "{end:?} in pieces of {piece}");
        }
    }
    // A line feed after a carriage return is not a line end of its own; a carriage return after a line feed is.
    assert_eq!(decode(b"data: a\r\ndata: b\r\rdata: c\n\rdata: d\n\n"), ["message=a\nb", "message=c", "message=d"]);
    // A lone carriage return dispatches without waiting for the next byte.
    assert_eq!(decode(b"data: a\r\r"), ["message=a"]);
}

#[test]
fn a_byte_order_mark_counts_once() {
    for (stream, expected) in [
        ("\u{feff}data: x\n\n", &["message=x"][..]),
        ("\u{feff}:\n", &["comment"]),
        ("\u{feff}\n\ndata: x\n\n", &["message=x"]),
        ("\u{feff}\u{feff}data: x\n\n", &[]),
        ("\ndata: a\n\n\u{feff}data: x\n\n", &["message=a"]),
        ("data: \u{feff}x\n\n", &["message=\u{feff}x"]),
    ] {
        for piece in 1..=stream.len() {
            assert_eq!(shown(&events_of(stream.as_bytes(), piece)), expected, "{stream:?} in pieces of {piece}");
        }
    }
    // A prefix of the mark is part of the line.
    for piece in 1..4 {
        assert_eq!(shown(&events_of(b"\xef\xbbdata: x\n\ndata: y\n\n", piece)), ["message=y"]);
    }
}

#[test]
fn invalid_utf_8_is_replaced() {
    for (stream, expected) in [
        (&b"data: a\xffb\n\n"[..], "message=a\u{fffd}b"),
        (b"data: \xe2\x82\n\n", "message=\u{fffd}"),
        (b"data: \xf0\x9f\x92x\n\n", "message=\u{fffd}x"),
        (b"data: \xc0\x80\n\n", "message=\u{fffd}\u{fffd}"),
        (b"data: \xed\xa0\x80\n\n", "message=\u{fffd}\u{fffd}\u{fffd}"),
        (b"data: \xe2\x82\xac\n\n", "message=€"),
        (b"event: \xff\ndata: x\n\n", "\u{fffd}=x"),
        (b"\xff: x\ndata: x\n\n", "message=x"),
        (b"data\xff: x\ndata: y\n\n", "message=y"),
    ] {
        for piece in 1..=stream.len() {
            assert_eq!(shown(&events_of(stream, piece)), [expected], "{stream:?} in pieces of {piece}");
        }
    }
    assert_eq!(decode(b": \xff\xfe\xe2\ndata: x\n\n"), ["comment", "message=x"]);
}

#[test]
fn the_last_event_id_stays_until_there_is_another() {
    let ids = |stream: &[u8]| events_of(stream, stream.len()).into_iter().map(|it| it.id).collect::<Vec<_>>();
    assert_eq!(ids(b"id: 1\ndata: a\n\ndata: b\n\nid\ndata: c\n\n"), ["1", "1", ""]);
    // An ID takes effect once its block is complete, and never with a NUL.
    assert_eq!(ids(b"id: 1\ndata: a\n\nid: 2\n:\ndata: b\n\n"), ["1", "1", "2"]);
    assert_eq!(ids(b"id: 1\ndata: a\n\nid: 2\x003\ndata: b\n\n"), ["1", "1"]);
    assert_eq!(ids(b"id: \xff\ndata: a\n\n"), ["\u{fffd}"]);
    let mut decoder = Decoder::new();
    decoder.set_last_event_id("7");
    let mut events = VecDeque::new();
    decoder.feed(b"data: x\n\nid: 8\n\nid: 9\n", &mut events).unwrap();
    assert_eq!(events.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), ["7", "8"]);
    assert_eq!(decoder.last_event_id(), "8");
}

#[test]
fn an_id_that_is_too_long_counts_as_none() {
    for (length, is_kept) in [(MAX_ID_SIZE, true), (MAX_ID_SIZE + 1, false), (1 << 20, false)] {
        let stream = format!("id: 7\ndata: a\n\nid: {}\ndata: b\n\n", "x".repeat(length));
        let events = events_of(stream.as_bytes(), 1000);
        assert_eq!(events[0].id, "7");
        assert_eq!(events[1].id.len(), if is_kept { length } else { 0 }, "{length}");
        assert_eq!(events[1].data, "b");
    }
}

#[test]
fn a_reconnection_time_belongs_to_its_block() {
    let events = events_of(b"retry: 5\ndata: a\n\ndata: b\n\n", 100);
    let seen: Vec<_> = events.iter().map(|it| (it.kind, it.retry.map(|it| it.as_millis()))).collect();
    assert_eq!(seen, [(EventKind::Settings, Some(5)), (EventKind::Message, Some(5)), (EventKind::Message, None)]);
}

#[test]
fn an_event_that_is_too_large_is_an_error() {
    for (stream, is_fine) in [
        ("data: 12345678\n\n", true),
        ("data: 123456789\n\n", false),
        ("data: 1234\ndata: 123\n\n", true),
        ("data: 1234\ndata: 1234\n\n", false),
        ("event: 123456789\n", false),
        ("id: 123456789", false),
        (": comments are not kept, whatever their length\n", true),
        ("unknown-fields: are not kept either\n", true),
    ] {
        // One byte more, for the line feed after each field.
        for piece in [1, 3, 100] {
            let mut decoder = Decoder::with_limit(9 + usize::from(stream.starts_with("event")));
            let mut events = VecDeque::new();
            let all: Result<(), _> = stream.as_bytes().chunks(piece).try_for_each(|it| decoder.feed(it, &mut events));
            assert_eq!(all.is_ok(), is_fine, "{stream} in pieces of {piece}");
        }
    }
    assert_eq!(EventTooLarge { limit: MAX_EVENT_SIZE }.to_string(), "event larger than 128 MiB");
}

#[test]
fn pieces_within_a_message_report_progress() {
    let progress = |pieces: &[&str]| {
        let mut decoder = Decoder::new();
        let mut events = VecDeque::new();
        pieces.iter().for_each(|it| decoder.feed(it.as_bytes(), &mut events).unwrap());
        shown(&Vec::from(events))
    };
    assert_eq!(progress(&["data: a", "b", "", "c\n", "\n"]), ["progress", "progress", "progress", "message=abc"]);
    assert_eq!(progress(&["data: a\n\n", "data: b\n", "x: y\n", "\n"]), ["message=a", "progress", "message=b"]);
    // Fields other than data are not progress.
    assert_eq!(progress(&["event: a", "b\nunknown: c", "d\n", "\n\n"]), [""; 0]);
}

#[test]
#[expect(clippy::disallowed_types, reason = "real time is what is measured")]
fn the_time_for_an_event_grows_with_its_size_only() {
    // The buffers grow by doubling, so buffered data is not copied per piece: the time per byte does not depend on the
    // number of bytes before it. A quadratic decoder takes 256 times as long for the larger event, a linear one 16
    // times.
    let time = |mebibytes: usize| {
        let piece = vec![b'x'; 1460];
        let best = |_| {
            let started = std::time::Instant::now();
            let mut decoder = Decoder::new();
            let mut events = VecDeque::new();
            decoder.feed(b"data:", &mut events).unwrap();
            for _ in 0..(mebibytes << 20) / piece.len() {
                decoder.feed(&piece, &mut events).unwrap();
            }
            decoder.feed(b"\n\n", &mut events).unwrap();
            assert!(events.back().is_some_and(|it| it.data.len() > (mebibytes << 20) - 1460));
            started.elapsed()
        };
        (0..3).map(best).min().unwrap()
    };
    let (small, large) = (time(1), time(16));
    assert!(large <= small * 60 + std::time::Duration::from_millis(20), "{small:?} and {large:?}");
}

/// Generates streams that are likely to contain relevant cases.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let parts: &[&[u8]] = &[
        b"data",
        b"event",
        b"id",
        b"retry",
        b":",
        b" ",
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"17",
        b"\0",
        b"x",
        b"\xef\xbb\xbf",
        b"\xe2\x82\xac",
        b"\xe2\x82",
        b"\xff",
    ];
    let part = proptest::sample::select(parts);
    proptest::collection::vec(part, 0..40).prop_map(|it| it.concat())
}

proptest! {
    #[test]
    fn events_do_not_depend_on_the_pieces(stream in stream(), cuts in proptest::collection::vec(1..8usize, 1..8)) {
        let mut decoder = Decoder::new();
        let mut events = VecDeque::new();
        let mut rest = &stream[..];
        for length in cuts.iter().cycle() {
            let (piece, behind) = rest.split_at((*length).min(rest.len()));
            decoder.feed(piece, &mut events).unwrap();
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(without_progress(events), events_of(&stream, stream.len().max(1)));
    }

    #[test]
    fn it_agrees_with_the_standard_read_literally(stream in stream()) {
        let messages: Vec<_> = events_of(&stream, 3).into_iter().filter(|it| it.kind == EventKind::Message).collect();
        prop_assert_eq!(messages, literal(&stream));
    }
}

/// The algorithm of the standard, step by step, on the whole stream at once.
fn literal(stream: &[u8]) -> Vec<Event> {
    let text = String::from_utf8_lossy(stream);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text).replace("\r\n", "\n").replace('\r', "\n");
    let mut events = Vec::new();
    let (mut data, mut event_type, mut id, mut retry) = (String::new(), String::new(), String::new(), None);
    // The part after the last line end is not a line.
    let lines = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
    for line in lines.split('\n').take(if text.contains('\n') { usize::MAX } else { 0 }) {
        if line.is_empty() {
            if let Some(data) = data.strip_suffix('\n') {
                let event = if event_type.is_empty() { "message" } else { &event_type };
                let kind = EventKind::Message;
                events.push(Event { event: event.to_owned(), data: data.to_owned(), id: id.clone(), retry, kind });
            }
            data.clear();
            event_type.clear();
            retry = None;
            continue;
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut event_type),
            "data" => data = data + value + "\n",
            "id" if !value.contains('\0') => value.clone_into(&mut id),
            "retry" if !value.is_empty() && value.chars().all(|it| it.is_ascii_digit()) => {
                retry = Some(Duration::from_millis(value.parse().unwrap_or(u64::MAX)));
            }
            _ => (),
        }
    }
    events
}
