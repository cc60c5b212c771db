//! A store whose file was altered by a disk error or a user.
#![no_main]

use std::time::Duration;

use yardarm_core::data_store::tables::{ITEMS, Table};
use yardarm_core::data_store::{DataStore, Key};
use yardarm_core::Lifecycle;

const TABLE: Table<(u64, String)> = ITEMS.of();

libfuzzer_sys::fuzz_target!(|changes: Vec<(u16, u8)>| {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let record = |number: u64| (number, "text ".repeat(20 * usize::try_from(number).expect("small")));
    runtime.block_on(async {
        let lifecycle = Lifecycle::new();
        let store = DataStore::open(dir.path(), &lifecycle).await;
        for number in 0..60_u64 {
            store.put(TABLE, &Key::of(&[number.to_be_bytes()]), &record(number)).expect("room");
        }
        assert!(lifecycle.stop(Duration::from_secs(60)).await);
    });
    let path = dir.path().join("store.redb");
    let mut bytes = std::fs::read(&path).expect("a file");
    for (place, value) in changes {
        let place = usize::from(place) * 3 % bytes.len();
        bytes[place] ^= value;
    }
    std::fs::write(&path, bytes).expect("a file");
    runtime.block_on(async {
        let lifecycle = Lifecycle::new();
        let store = DataStore::open(dir.path(), &lifecycle).await;
        let read = store.read(TABLE, &Key::default(), |it| {
            let (number, text) = it.value.expect("a value");
            assert_eq!((number, text), record(number));
        });
        read.expect("a store, or an empty one in its place");
        assert!(lifecycle.stop(Duration::from_secs(60)).await);
    });
});
