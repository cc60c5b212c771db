//! A file that was altered never ends the process, and never yields wrong data.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::data_store::FILE;
use crate::data_store::database::{Connection, Written};
use crate::data_store::key::Key;
use crate::data_store::medium::FileMedium;
use crate::data_store::tables::{ITEMS, Table};

const TABLE: Table<String> = ITEMS.of();

fn connection(folder: &Path) -> Connection {
    Connection::new(Box::new(FileMedium::new(folder.join(FILE))))
}

fn text(number: usize) -> String {
    format!("{number:>4}").repeat(100 + number)
}

fn records(connection: &Connection) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let read = connection.read(TABLE.name(), &Key::default(), |(key, value)| {
        all.push((String::from_utf8(key[0].to_vec()).unwrap(), rmp_serde::from_slice(value).unwrap()));
    });
    read.expect("a readable store");
    all
}

type Records = Vec<(String, String)>;

/// A store with some records.
struct Filled {
    folder: tempfile::TempDir,
    path: PathBuf,
    /// Content of the file.
    good: Vec<u8>,
    /// The records after the last commit, and after the one before.
    last: Records,
    previous: Records,
    is_clean: bool,
}

/// Fills a store. If `is_clean` is off, its file looks as after a crash.
fn filled(is_clean: bool) -> Filled {
    let folder = tempfile::tempdir().unwrap();
    let connection = connection(folder.path());
    connection.open().unwrap();
    let (mut last, mut previous) = (Records::new(), Records::new());
    for round in 0..4 {
        let write = |changes: &mut crate::data_store::Changes<'_>| {
            for number in (round..60).step_by(round + 1) {
                changes.put(TABLE, &Key::of(&[format!("{number:02}")]), &text(number + round));
            }
        };
        assert_eq!(connection.commit(write).unwrap(), Written::All);
        previous = std::mem::replace(&mut last, records(&connection));
    }
    let path = folder.path().join(FILE);
    if is_clean {
        connection.close();
    }
    let good = fs::read(&path).unwrap();
    connection.close();
    Filled { folder, path, good, last, previous, is_clean }
}

/// Opens an altered file, and checks that all data is read or none, and that the store can be written.
fn check(filled: &Filled, bytes: &[u8], what: &str) {
    fs::write(&filled.path, bytes).unwrap();
    let store = connection(filled.folder.path());
    store.open().unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = records(&store);
    // After a crash, damage to the last commit cannot be distinguished from a commit that was interrupted.
    let is_previous = !filled.is_clean && found == filled.previous;
    assert!(found.is_empty() || found == filled.last || is_previous, "{what}: {} records", found.len());
    let write = |changes: &mut crate::data_store::Changes<'_>| changes.put(TABLE, &Key::of(&["new"]), &"x".to_owned());
    assert_eq!(store.commit(write).unwrap(), Written::All, "{what}");
    store.close();
}

#[test]
fn a_file_with_changed_bits_is_set_aside_or_undamaged() {
    for is_clean in [true, false] {
        let filled = filled(is_clean);
        // The head, and places all over the rest.
        let places = (0..320).step_by(5).chain((320..filled.good.len()).step_by(1361));
        for (index, place) in places.enumerate() {
            let mut bad = filled.good.clone();
            bad[place] ^= 1 << (index % 8);
            check(&filled, &bad, &format!("bit of byte {place}, clean {is_clean}"));
        }
    }
}

#[test]
fn a_file_that_was_cut_or_partly_erased_is_set_aside_or_undamaged() {
    for is_clean in [true, false] {
        let filled = filled(is_clean);
        for length in [0, 1, 9, 319, 320, 4095, 4096].into_iter().chain((5000..filled.good.len()).step_by(4099)) {
            check(&filled, &filled.good[..length], &format!("cut at {length}, clean {is_clean}"));
        }
        for page in 0..filled.good.len() / 4096 {
            let mut bad = filled.good.clone();
            bad[page * 4096..(page + 1) * 4096].fill(0);
            check(&filled, &bad, &format!("page {page} erased, clean {is_clean}"));
        }
    }
}

#[test]
fn foreign_files_and_links_are_set_aside_and_at_most_three_are_kept() {
    let filled = filled(true);
    let (folder, path, good) = (&filled.folder, &filled.path, &filled.good);
    let elsewhere = tempfile::tempdir().unwrap();
    let precious = elsewhere.path().join("precious");
    fs::write(&precious, good).unwrap();
    let aside = || {
        let names = fs::read_dir(folder.path()).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
        names.filter(|it| it.starts_with(&format!("{FILE}.damaged-"))).count()
    };
    for what in ["script", "link", "writable by all"] {
        fs::remove_file(path).unwrap();
        match what {
            "script" => fs::write(path, "#!/bin/sh\necho hello\n".repeat(500)).unwrap(),
            "link" => symlink(&precious, path).unwrap(),
            _ => {
                fs::write(path, good).unwrap();
                fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
            }
        }
        let store = connection(folder.path());
        store.open().unwrap();
        assert_eq!(records(&store), [], "{what}");
        assert!(fs::symlink_metadata(path).unwrap().is_file(), "{what}");
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(aside() >= 1, "{what}");
        store.close();
    }
    for number in 0..5 {
        fs::write(folder.path().join(format!("{FILE}.damaged-{number}")), "x").unwrap();
    }
    check(&filled, b"damaged", "the last");
    assert_eq!(aside(), 3);
    assert_eq!(fs::read(&precious).unwrap(), *good, "links are not written through");
}

#[test]
fn a_second_process_is_refused_and_may_try_again() {
    let filled = filled(true);
    let (first, second) = (connection(filled.folder.path()), connection(filled.folder.path()));
    first.open().unwrap();
    assert!(second.open().unwrap_err().to_string().contains("in use"));
    first.close();
    second.open().unwrap();
    assert_eq!(records(&second), filled.last);
}

#[test]
fn a_file_that_cannot_be_written_is_read() {
    for is_clean in [true, false] {
        let filled = filled(is_clean);
        fs::write(&filled.path, &filled.good).unwrap();
        let store = Connection::new(Box::new(super::ReadOnly(FileMedium::new(filled.path.clone()))));
        assert!(store.open().unwrap_err().to_string().contains("Read-only"));
        assert_eq!(records(&store), filled.last, "clean {is_clean}");
        assert!(fs::read(&filled.path).unwrap() == filled.good, "nothing is written");
    }
}
