//! LaunchDarkly's data archive for offline mode: read into memory, checked and parsed.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::path::{Component, Path, PathBuf};

use flate2::read::MultiGzDecoder;
use md5::{Digest, Md5};
use serde_json::Value;

use super::representation::{Object, Representation};
use crate::data::{Items, message};

/// Largest member, as in the reference.
const MAX_MEMBER: u64 = 200 << 20;
/// Most bytes of all members together.
const MAX_TOTAL: u64 = 1 << 30;
/// Largest archive file.
const MAX_FILE: u64 = 1 << 30;

/// A readable archive.
pub(crate) struct Archive {
    pub(crate) environments: Vec<Archived>,
    /// Environments in it that cannot be used, with the reason.
    pub(crate) skipped: Vec<(String, String)>,
}

/// One environment of an archive.
pub(crate) struct Archived {
    pub(crate) id: String,
    pub(crate) representation: Representation,
    /// Changes with the data. Opaque.
    pub(crate) data_id: String,
    pub(crate) items: Items,
}

/// Why an archive cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// A member is larger than any real one, or all together are.
    #[error(
        "detected malformed or malicious archive file; it contained a file \"{name}\" with a size >= {limit} bytes"
    )]
    TooLarge {
        /// Name of the member.
        name: String,
        /// Limit in bytes.
        limit: u64,
    },
    /// The checksum of its content is missing.
    #[error("unable to read \"checksum.md5\" from archive: there is no such file in it")]
    NoChecksum,
    /// It was changed, or is not complete.
    #[error("checksum of environments did not match: expected \"{expected}\", got \"{found}\"")]
    Checksum {
        /// The checksum in the archive, in hexadecimal digits.
        expected: String,
        /// The checksum of its content.
        found: String,
    },
}

/// The archive of offline mode cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("unable to read file data source `{path}` (`launchdarkly.offline.file`): {source}")]
pub(crate) struct UnreadableArchive {
    pub(crate) path: PathBuf,
    pub(crate) source: ArchiveError,
}

impl Archive {
    /// Reads the archive at `path`. Blocks.
    pub(crate) fn read(path: &Path) -> Result<Self, ArchiveError> {
        let mut bytes = Vec::new();
        yardarm_core::input_file::open(path)?.take(MAX_FILE).read_to_end(&mut bytes)?;
        Self::parse(&bytes)
    }

    /// Reads a tar file, compressed or not.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ArchiveError> {
        let is_gzip = bytes.starts_with(&[0x1f, 0x8b]);
        let mut members = if is_gzip { members(MultiGzDecoder::new(bytes))? } else { members(Cursor::new(bytes))? };
        let expected = members.remove("checksum.md5").ok_or(ArchiveError::NoChecksum)?;
        members.retain(|name, _| name.ends_with(".json"));
        // In order of name: `-` sorts before `.`, so the data of an environment precedes its description.
        let mut hash = Md5::new();
        members.values().for_each(|content| hash.update(content));
        let found = hash.finalize();
        if found[..] != expected[..] {
            return Err(ArchiveError::Checksum { expected: hex::encode(expected), found: hex::encode(found) });
        }
        let (mut environments, mut skipped) = (Vec::new(), Vec::new());
        for (name, description) in &members {
            let Some(id) = name.strip_suffix(".json").filter(|id| !id.ends_with("-data")) else { continue };
            match environment(id, description, members.get(&format!("{id}-data.json"))) {
                Ok(environment) => environments.push(environment),
                Err(problem) => skipped.push((id.to_owned(), problem)),
            }
        }
        Ok(Self { environments, skipped })
    }
}

/// Content of the regular files at the top, by name. Nothing is written to disk, so names are harmless.
fn members(reader: impl Read) -> Result<BTreeMap<String, Vec<u8>>, ArchiveError> {
    let mut members = BTreeMap::new();
    let mut total = 0;
    for entry in tar::Archive::new(reader).entries()? {
        let entry = entry?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = entry.path()?.into_owned();
        let mut parts = path.components().filter(|it| *it != Component::CurDir);
        let (Some(Component::Normal(name)), None) = (parts.next(), parts.next()) else { continue };
        let name = name.to_string_lossy().into_owned();
        if entry.size() >= MAX_MEMBER {
            return Err(ArchiveError::TooLarge { name, limit: MAX_MEMBER });
        }
        let mut content = Vec::new();
        // The header may be wrong, so the bytes that were read count.
        entry.take(MAX_MEMBER).read_to_end(&mut content)?;
        total += content.len() as u64;
        if total >= MAX_TOTAL {
            return Err(ArchiveError::TooLarge { name, limit: MAX_TOTAL });
        }
        members.insert(name, content);
    }
    Ok(members)
}

fn environment(id: &str, description: &[u8], data: Option<&Vec<u8>>) -> Result<Archived, String> {
    let value: Value = serde_json::from_slice(description).map_err(|error| error.to_string())?;
    let all = Object::of(&value, "description").map_err(|error| error.to_string())?;
    let mut representation =
        Representation::read(all.get("env").unwrap_or(&Value::Null)).map_err(|error| error.to_string())?;
    // The name of the file counts, as in the reference.
    id.clone_into(&mut representation.id);
    let data_id = all.text("dataId").map_err(|error| error.to_string())?.to_owned();
    let data = data.ok_or_else(|| format!("\"{id}-data.json\" is missing"))?;
    let items = message::data(data).map_err(|error| error.to_string())?;
    Ok(Archived { id: id.to_owned(), representation, data_id, items })
}

#[cfg(fuzzing)]
pub(crate) fn fuzz(bytes: &[u8]) {
    let _ = Archive::parse(bytes);
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn description(id: &str) -> String {
        format!(
            r#"{{"env":{{"envID":"{id}","envKey":"production","envName":"Production","projKey":"p","projName":"P","sdkKey":{{"value":"sdk-1"}},"mobKey":"mob-1","version":1}},"dataId":"d1"}}"#
        )
    }

    const DATA: &str = r#"{"flags":{},"segments":{}}"#;

    /// Files of two environments whose checksums are known (U078, U079).
    fn vector(ids: &[&str], checksum: &str) -> Vec<(String, Vec<u8>)> {
        let mut files = vec![("checksum.md5".to_owned(), hex::decode(checksum).unwrap())];
        for id in ids {
            files.push((format!("{id}.json"), description(id).into_bytes()));
            files.push((format!("{id}-data.json"), DATA.as_bytes().to_vec()));
        }
        files
    }

    fn tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            // Written past the check of the library, which refuses `..`.
            let bytes = name.as_bytes();
            header.as_old_mut().name[..bytes.len()].copy_from_slice(bytes);
            header.set_cksum();
            builder.append(&header, &content[..]).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    const ONE: &str = "583e0011007dccffa5fc152a4c395834";
    const TWO: &str = "52e66305458859358465951e49faa0de";
    const NONE: &str = "d41d8cd98f00b204e9800998ecf8427e";

    #[test]
    fn known_archives_are_read() {
        // U078, U084
        for (ids, checksum) in [(&["1111111111"][..], ONE), (&["1111111111", "2222222222"], TWO), (&[], NONE)] {
            let plain = tar(&vector(ids, checksum));
            for bytes in [gzip(&plain), plain] {
                let archive = Archive::parse(&bytes).unwrap();
                let found: Vec<_> = archive.environments.iter().map(|it| it.id.as_str()).collect();
                assert_eq!(found, ids);
                assert!(archive.environments.iter().all(|it| it.data_id == "d1") && archive.skipped.is_empty());
            }
        }
    }

    #[test]
    fn untrusted_archives_are_refused_with_the_reason() {
        let mut without = vector(&["1111111111"], ONE);
        without.remove(0);
        for (row, bytes, text) in [
            ("U079", tar(&vector(&["1111111111"], TWO)), format!("expected \"{TWO}\", got \"{ONE}\"")),
            ("U080", tar(&without), "unable to read \"checksum.md5\"".to_owned()),
            ("not a tar", b"hello".repeat(300), "cannot be read".to_owned()),
            ("cut off", gzip(&tar(&vector(&["1111111111"], ONE)))[..60].to_vec(), "cannot be read".to_owned()),
        ] {
            let error = Archive::parse(&bytes).err().map(|it| it.to_string()).unwrap_or_default();
            assert!(error.contains(&text), "{row}: {error}");
        }
        let mut header = tar::Header::new_gnu();
        header.set_path("big.json").unwrap();
        header.set_size(MAX_MEMBER);
        header.set_cksum();
        let error = Archive::parse(header.as_bytes()).err().map(|it| it.to_string()).unwrap_or_default();
        assert!(error.contains("it contained a file \"big.json\" with a size >= 209715200 bytes"), "{error}");
    }

    #[test]
    fn other_members_are_ignored() {
        // U081, U082
        let mut files = vector(&["1111111111"], ONE);
        files.push(("../evil.json".to_owned(), b"{}".to_vec()));
        files.push(("folder/other.json".to_owned(), b"{}".to_vec()));
        files.push(("notes.txt".to_owned(), b"hello".to_vec()));
        let archive = Archive::parse(&tar(&files)).unwrap();
        assert_eq!(archive.environments.len(), 1);
    }

    #[test]
    fn a_bad_environment_does_not_affect_others() {
        // U083
        let mut files = vector(&["1111111111", "2222222222"], TWO);
        files[4].1 = br#"{"flags":{"a":true}}"#.to_vec();
        let mut hash = Md5::new();
        for index in [2, 1, 4, 3] {
            hash.update(&files[index].1);
        }
        files[0].1 = hash.finalize().to_vec();
        let archive = Archive::parse(&tar(&files)).unwrap();
        assert_eq!(archive.environments[0].id, "1111111111");
        assert_eq!(archive.skipped[0].0, "2222222222");
    }

    proptest::proptest! {
        #[test]
        fn no_file_makes_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..2000)) {
            let _ = Archive::parse(&bytes);
        }
    }
}
