//! After a crash at any point, the store holds the last commit, or the one that was in progress.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::disk::Disk;
use crate::data_store::database::{Connection, Written};
use crate::data_store::error::StoreError;
use crate::data_store::key::Key;
use crate::data_store::tables::{ITEMS, Table};

const TABLE: Table<Vec<u8>> = ITEMS.of();

type Content = BTreeMap<Vec<u8>, Vec<u8>>;

/// Changes of one transaction: keys, and values or `None` for a removal.
type Transaction = Vec<(u8, Option<(usize, u8)>)>;

fn transactions() -> impl Strategy<Value = Vec<(Transaction, Option<u64>, u64)>> {
    let value = prop::option::weighted(0.8, (prop_oneof![3 => 0..300_usize, 1 => 3_000..20_000_usize], any::<u8>()));
    let transaction = prop::collection::vec((any::<u8>().prop_map(|it| it % 40), value), 1..12);
    prop::collection::vec((transaction, prop::option::weighted(0.5, 0..60_u64), any::<u64>()), 1..14)
}

fn apply(content: &mut Content, transaction: &Transaction) {
    for (key, value) in transaction {
        match value {
            Some((size, byte)) => drop(content.insert(vec![*key], vec![*byte; *size])),
            None => drop(content.remove(&vec![*key])),
        }
    }
}

fn commit(connection: &Connection, transaction: &Transaction) -> Result<Written, StoreError> {
    connection.commit(|changes| {
        for (key, value) in transaction {
            match value {
                Some((size, byte)) => changes.put(TABLE, &Key::of(&[[*key]]), &vec![*byte; *size]),
                None => changes.remove(TABLE, &Key::of(&[[*key]])),
            }
        }
    })
}

fn content(connection: &Connection) -> Content {
    let mut content = Content::new();
    let read = connection.read(TABLE.name(), &Key::default(), |(key, value)| {
        content.insert(key[0].to_vec(), rmp_serde::from_slice(value).expect("a value"));
    });
    read.expect("a readable store");
    content
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn a_crash_at_any_point_loses_no_commit(steps in transactions()) {
        let disk = Disk::default();
        let mut connection = Connection::new(Box::new(disk.clone()));
        connection.open().unwrap();
        let mut committed = Content::new();
        for (transaction, crash_after, seed) in &steps {
            disk.fail_after(*crash_after);
            let outcome = commit(&connection, transaction);
            let mut newest = committed.clone();
            apply(&mut newest, transaction);
            if crash_after.is_none() {
                prop_assert_eq!(outcome.unwrap(), Written::All);
                committed = newest;
                prop_assert_eq!(&content(&connection), &committed);
                continue;
            }
            // The process is killed. What it does while it is dropped reaches no disk.
            disk.fail_after(Some(0));
            drop(connection);
            disk.crash(*seed);
            connection = Connection::new(Box::new(disk.clone()));
            connection.open().unwrap();
            let found = content(&connection);
            if outcome.is_ok() {
                prop_assert_eq!(&found, &newest, "a commit was acknowledged");
            }
            prop_assert!(found == committed || found == newest, "neither the last commit nor the next one");
            committed = found;
        }
        prop_assert_eq!(disk.set_aside(), 0, "a crash is no damage");
    }

    #[test]
    fn after_a_failed_write_the_same_process_goes_on(steps in transactions()) {
        let disk = Disk::default();
        let connection = Connection::new(Box::new(disk.clone()));
        connection.open().unwrap();
        let mut committed = Content::new();
        for (transaction, fail_after, _) in &steps {
            let mut newest = committed.clone();
            apply(&mut newest, transaction);
            disk.fail_after(*fail_after);
            match commit(&connection, transaction) {
                Ok(written) => {
                    prop_assert_eq!(written, Written::All);
                    committed = newest;
                }
                Err(error) => {
                    prop_assert!(matches!(error, StoreError::Unavailable(_)), "{}", error);
                    disk.fail_after(None);
                    prop_assert_eq!(commit(&connection, transaction).unwrap(), Written::Reopened);
                    let found = content(&connection);
                    prop_assert!(found == committed || found == newest);
                    committed = found;
                }
            }
            disk.fail_after(None);
        }
        prop_assert_eq!(content(&connection), committed);
        prop_assert_eq!(disk.set_aside(), 0);
    }
}

/// Number of cases; the environment variable asks for more.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|it| it.parse().ok()).unwrap_or(64)
}
