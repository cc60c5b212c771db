//! Last good data on disk: files with a checksum or a seal, and the task that writes the newest data.

pub mod snapshot_file;

pub mod sealed_file;

pub mod snapshot_writer;
