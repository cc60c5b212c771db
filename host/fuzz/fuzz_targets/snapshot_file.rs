//! A snapshot file that was altered by a crash, a disk error or a user.
#![no_main]

use yardarm_vendor::persisted::snapshot_file::SnapshotFile;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = SnapshotFile::new(dir.path(), "fuzz");
    std::fs::write(file.path(), input).expect("a file");
    let _ = file.read::<Vec<(String, i64, Option<String>)>>();
});
