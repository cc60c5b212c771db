use std::io::Write;

use axum::body::Body;
use flate2::Compression;
use flate2::write::GzEncoder;
use yardarm_core::budget::Budget;

use super::*;

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn account() -> Arc<Account> {
    Budget::new(1 << 30).account()
}

fn body(parts: Vec<Bytes>) -> Body {
    Body::from_stream(futures_util::stream::iter(parts.into_iter().map(Ok::<_, std::io::Error>)))
}

async fn collected(bytes: &[u8], is_gzip: bool, limit: usize) -> Option<Bytes> {
    let account = account();
    let parts = bytes.chunks(1000).map(Bytes::copy_from_slice).collect();
    let received = ReceivedBody::read(body(parts), 1 << 30, Some(&account)).await.unwrap();
    assert_eq!((received.length(), account.used()), (bytes.len(), bytes.len()));
    let mut charge = account.charge(0).unwrap();
    let collected = received.reading(is_gzip, limit).unwrap().collect(&mut charge).ok();
    drop(charge);
    assert_eq!(account.used(), 0, "all of it is given back");
    collected
}

#[tokio::test]
async fn the_limit_counts_decompressed_bytes() {
    let bomb = gzip(&vec![b' '; 1 << 20]);
    assert!(bomb.len() < 2000);
    assert_eq!(collected(&bomb, true, 1 << 20).await.map(|it| it.len()), Some(1 << 20), "exactly the limit");
    assert_eq!(collected(&bomb, true, (1 << 20) - 1).await, None);
    assert_eq!(collected(b"[1]", false, 3).await.as_deref(), Some(&b"[1]"[..]));
}

#[tokio::test]
async fn a_damaged_stream_is_unreadable() {
    let good = gzip(b"[1]");
    let with = |more: &[u8]| [&good[..], more].concat();
    let mut damaged = good.clone();
    let checksum = damaged.len() - 8;
    damaged[checksum] ^= 1;
    for (what, body) in [
        ("cut off", good[..good.len() - 3].to_vec()),
        ("another checksum", damaged),
        ("something behind it", with(b"something else")),
        ("a bit of a head behind it", with(&[0x1f])),
    ] {
        assert_eq!(collected(&body, true, 100).await, None, "{what}");
    }
    let two = collected(&with(&gzip(b"[2]")), true, 100).await;
    assert_eq!(two.as_deref(), Some(&b"[1][2]"[..]), "two in a row are one");
}

#[tokio::test]
async fn empty_members_are_few() {
    let body = |empty: usize| [gzip(b"").repeat(empty), gzip(b"[1]")].concat();
    assert_eq!(collected(&body(MAX_MEMBERS - 1), true, 100).await.as_deref(), Some(&b"[1]"[..]));
    assert_eq!(collected(&body(MAX_MEMBERS), true, 100).await, None);
}

proptest::proptest! {
    /// Consecutive gzip members, whole, damaged or truncated, are read like by another decompressor.
    #[test]
    fn members_are_read_as_another_decompressor_reads_them(
        parts in proptest::collection::vec(proptest::collection::vec(proptest::num::u8::ANY, 0..300), 1..5),
        damage in proptest::option::of((proptest::num::usize::ANY, 1_u8..)),
        cut in proptest::option::of(proptest::num::usize::ANY),
        length in 1_usize..40,
    ) {
        let mut bytes: Vec<u8> = parts.iter().flat_map(|it| gzip(it)).collect();
        if let Some((place, bits)) = damage {
            let place = place % bytes.len();
            bytes[place] ^= bits;
        }
        bytes.truncate(cut.map_or(bytes.len(), |it| it % bytes.len()));
        let frames = bytes.chunks(length).map(Bytes::copy_from_slice).collect();
        let received = ReceivedBody { frames, length: bytes.len(), is_whole: true, charge: None };
        let collected = received.reading(true, 1 << 20).unwrap().collect(&mut account().charge(0).unwrap()).ok();
        let mut expected = Vec::new();
        let is_read = flate2::bufread::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut expected).is_ok();
        proptest::prop_assert_eq!(collected.as_deref(), is_read.then_some(&expected[..]));
        if damage.is_none() && cut.is_none() {
            proptest::prop_assert_eq!(expected, parts.concat());
        }
    }
}

#[tokio::test]
async fn frames_of_any_size_are_one_body() {
    for sizes in
        [vec![1; 100], vec![SMALL_FRAME], vec![5, SMALL_FRAME + 3, 7, 7, 3 * SMALL_FRAME], vec![SMALL_FRAME - 1; 5]]
    {
        let mut next = 0_u8;
        let part = |size: &usize| -> Bytes {
            (0..*size)
                .map(|_| {
                    next = next.wrapping_add(1);
                    next
                })
                .collect()
        };
        let parts: Vec<Bytes> = sizes.iter().map(part).collect();
        let whole = parts.concat();
        let account = account();
        let received = ReceivedBody::read(body(parts), whole.len(), Some(&account)).await.unwrap();
        assert!(received.frames.iter().rev().skip(1).all(|it| it.len() >= 5), "small ones are put together");
        assert_eq!(received.beginning()[..], whole[..whole.len().min(BEGINNING)]);
        let mut charge = account.charge(0).unwrap();
        assert_eq!(received.reading(false, whole.len()).unwrap().collect(&mut charge).unwrap(), whole);
    }
}

#[tokio::test]
async fn long_and_truncated_bodies_are_unreadable() {
    let account = account();
    let received = ReceivedBody::read(body(vec![Bytes::from_static(b"1234")]), 3, Some(&account)).await.unwrap();
    assert_eq!(received.reading(false, 100).err(), Some(ReadingError::Unreadable));
    let failing = futures_util::stream::iter([Ok(Bytes::from_static(b"12")), Err(std::io::Error::other("gone"))]);
    let received = ReceivedBody::read(Body::from_stream(failing), 100, Some(&account)).await.unwrap();
    assert_eq!(received.beginning(), "12");
    assert_eq!(received.reading(false, 100).err(), Some(ReadingError::Unreadable));
    assert_eq!(account.used(), 0);
}

#[tokio::test]
async fn a_body_without_memory_is_refused() {
    let account = Budget::new(900).account();
    let read =
        async |length: usize| ReceivedBody::read(body(vec![vec![0; length].into()]), 1 << 20, Some(&account)).await;
    assert_eq!(read(801).await.err(), Some(ReadingError::Busy));
    let received = read(700).await.unwrap();
    assert_eq!(read(200).await.err(), Some(ReadingError::Busy), "another one holds it");
    let mut charge = account.charge(0).unwrap();
    let collected = received.reading(false, 1 << 20).unwrap().collect(&mut charge);
    assert_eq!(collected.map(|it| it.len()), Ok(700), "a frame is free again once it was read");
    drop(charge);
    let bomb = gzip(&[b' '; 2000]);
    let received = ReceivedBody::read(body(vec![bomb.into()]), 1 << 20, Some(&account)).await.unwrap();
    let mut charge = account.charge(0).unwrap();
    assert_eq!(received.reading(true, 1 << 20).unwrap().collect(&mut charge), Err(ReadingError::Busy));
    drop(charge);
    assert_eq!(account.used(), 0);
    let only_the_beginning = ReceivedBody::read(body(vec![vec![0; BEGINNING].into(); 3]), 1 << 30, None).await.unwrap();
    assert_eq!(only_the_beginning.frames.len(), 1, "of what nothing comes, no more is kept");
}

#[tokio::test]
async fn a_post_is_split_step_by_step() {
    let text = format!("[{}0]", "0,".repeat(STEP));
    let account = account();
    let mut splitter = Splitter::new(&account, false).unwrap();
    let received = ReceivedBody::read(body(vec![gzip(text.as_bytes()).into()]), 1 << 20, Some(&account)).await.unwrap();
    let mut reading = received.reading(true, 1 << 20).unwrap();
    assert_eq!(reading.split(1, &mut splitter), Ok(false));
    assert!(reading.length() <= STEP);
    assert_eq!(reading.split(usize::MAX, &mut splitter), Ok(true));
    assert_eq!((reading.length(), splitter.finish().events.len()), (text.len(), STEP + 1));
    let budget = Budget::new(1000);
    let splitter = Splitter::new(&budget.account(), false).unwrap();
    assert_eq!(split_at_once(text.as_bytes(), splitter).err(), Some(ReadingError::Busy));
}
