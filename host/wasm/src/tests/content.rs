//! Changes of content are detected whatever the size, times and inode number of a file.
//!
//! Acceptance test 3 of the plugin system.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;
use std::time::SystemTime;

use yardarm_testkit::guests;

use super::*;

/// Two components of the same size: the first allows every request, the second denies every request.
fn pair() -> (Vec<u8>, Vec<u8>) {
    let guest = |fragment| Guest::new("gate").hook(GuestHook::RequestAuth, fragment).component().unwrap();
    let (mut allow, mut forbid) = (guest(guests::ALLOW), guest(guests::FORBID));
    let size = allow.len().max(forbid.len()) + 8;
    for component in [&mut allow, &mut forbid] {
        // A custom section: its number, its size, the size of its name, and zeros.
        let rest = size - component.len() - 2;
        component.extend([0, u8::try_from(rest).unwrap()]);
        component.extend(vec![0; rest]);
    }
    (allow, forbid)
}

/// Two binding files of the same size, of which the second names other environments.
const BINDINGS: [&str; 2] = [
    "[[bind]]\nhook = \"request-auth\"\nenvironments = [\"prod\"]\n",
    "[[bind]]\nhook = \"request-auth\"\nenvironments = [\"test\"]\n",
];

fn modified(path: &Path) -> SystemTime {
    fs::metadata(path).unwrap().modified().unwrap()
}

fn set_modified(path: &Path, time: SystemTime) {
    File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

impl Fixture {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Waits until callers in `prod` are allowed, or denied; without a plugin every caller is allowed.
    async fn lets_in(&self, expected: bool) {
        let wait = async {
            loop {
                let hooks = self.hooks_of("prod");
                let lets_in = match &hooks.request_auth {
                    None => true,
                    Some(_) => matches!(self.authenticate().await, Ok(Admission::Allowed { .. })),
                };
                if lets_in == expected {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let result = tokio::time::timeout(TEST_TIMEOUT, wait).await;
        assert!(result.is_ok(), "lets in: not {expected}\n{:#?}", self.folder.status());
    }

    /// Overwrites a file in place and sets its modification time back.
    fn rewrite(&self, name: &str, content: &[u8]) {
        let path = self.path(name);
        let (time, inode, size) = (modified(&path), fs::metadata(&path).unwrap().ino(), content.len() as u64);
        assert_eq!(fs::metadata(&path).unwrap().len(), size);
        // In place, without truncating: the size of the file never differs.
        let file = File::options().write(true).open(&path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, content, 0).unwrap();
        drop(file);
        set_modified(&path, time);
        assert_eq!((modified(&path), fs::metadata(&path).unwrap().ino()), (time, inode));
    }
}

#[tokio::test]
async fn a_component_overwritten_with_equal_size_and_time_is_loaded() {
    let (allow, forbid) = pair();
    let fixture = Fixture::with(&[("gate.wasm", &allow)]).await;
    fixture.lets_in(true).await;
    for _ in 0..3 {
        fixture.rewrite("gate.wasm", &forbid);
        fixture.lets_in(false).await;
        fixture.rewrite("gate.wasm", &allow);
        fixture.lets_in(true).await;
    }
}

#[tokio::test]
async fn a_binding_file_overwritten_with_equal_size_and_time_is_applied() {
    let (_, forbid) = pair();
    let fixture = Fixture::with(&[("gate.wasm", &forbid), ("gate.toml", BINDINGS[0].as_bytes())]).await;
    fixture.lets_in(false).await;
    fixture.rewrite("gate.toml", BINDINGS[1].as_bytes());
    fixture.lets_in(true).await;
    fixture.rewrite("gate.toml", BINDINGS[0].as_bytes());
    fixture.lets_in(false).await;
}

#[tokio::test]
async fn a_change_is_detected_without_file_events() {
    // No events, as on a network file system. The first scan detects the change time, which cannot be set back.
    let (allow, forbid) = pair();
    let aside = tempfile::tempdir().unwrap();
    fs::write(aside.path().join("gate.wasm"), &allow).unwrap();
    let slow = |settings: &mut Settings| settings.verify_interval = Duration::from_secs(3600);
    let fixture = Fixture::set_up(&[], slow).await;
    symlink(aside.path().join("gate.wasm"), fixture.path("gate.wasm")).unwrap();
    fixture.shows("the component", |status| status.plugins.iter().any(|it| it.state == crate::RowState::Active)).await;
    fixture.rewrite("gate.wasm", &forbid);
    fixture.lets_in(false).await;
}

#[tokio::test]
async fn a_file_with_equal_inode_number_size_and_time_is_loaded() {
    let (allow, forbid) = pair();
    let fixture = Fixture::with(&[("gate.wasm", &allow)]).await;
    fixture.lets_in(true).await;
    let path = fixture.path("gate.wasm");
    let (time, inode) = (modified(&path), fs::metadata(&path).unwrap().ino());
    // Most file systems reuse the inode number of a removed file.
    for _ in 0..20 {
        fs::remove_file(&path).unwrap();
        fs::write(&path, &forbid).unwrap();
        set_modified(&path, time);
        if fs::metadata(&path).unwrap().ino() == inode {
            break;
        }
    }
    fixture.lets_in(false).await;
    // The same with a rename.
    let other = fixture.path(".other");
    fs::write(&other, &allow).unwrap();
    set_modified(&other, time);
    fs::rename(&other, &path).unwrap();
    fixture.lets_in(true).await;
}

#[tokio::test]
async fn a_mounted_config_map_is_followed_when_it_is_swapped() {
    let (_, forbid) = pair();
    let fixture = Fixture::with(&[]).await;
    let time = SystemTime::now() - Duration::from_secs(60);
    // Like the kubelet: files in a versioned folder, one link to the folder, one link per file.
    let fill = |version: &str, binding: &str| {
        fs::create_dir(fixture.path(version)).unwrap();
        for (name, content) in [("gate.wasm", &forbid[..]), ("gate.toml", binding.as_bytes())] {
            fs::write(fixture.path(version).join(name), content).unwrap();
            set_modified(&fixture.path(version).join(name), time);
        }
        symlink(version, fixture.path("..data_tmp")).unwrap();
        fs::rename(fixture.path("..data_tmp"), fixture.path("..data")).unwrap();
    };
    fill("..2026_1", BINDINGS[0]);
    for name in ["gate.toml", "gate.wasm"] {
        symlink(Path::new("..data").join(name), fixture.path(name)).unwrap();
    }
    fixture.lets_in(false).await;
    for round in 1..=3 {
        fill(&format!("..2026_{}", 2 * round), BINDINGS[1]);
        fs::remove_dir_all(fixture.path(&format!("..2026_{}", 2 * round - 1))).unwrap();
        fixture.lets_in(true).await;
        fill(&format!("..2026_{}", 2 * round + 1), BINDINGS[0]);
        fs::remove_dir_all(fixture.path(&format!("..2026_{}", 2 * round))).unwrap();
        fixture.lets_in(false).await;
    }
}

#[tokio::test]
async fn a_write_through_a_memory_mapping_is_detected_by_content() {
    use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
    let (_, forbid) = pair();
    let often = |settings: &mut Settings| settings.verify_interval = Duration::from_millis(100);
    let fixture = Fixture::set_up(&[("gate.wasm", &forbid), ("gate.toml", BINDINGS[0].as_bytes())], often).await;
    fixture.lets_in(false).await;
    let file = File::options().read(true).write(true).open(fixture.path("gate.toml")).unwrap();
    let size = BINDINGS[0].len();
    // SAFETY: the mapping is as long as the file, which is not truncated, and ends below; there is no other reference
    // to it.
    #[expect(unsafe_code, reason = "the only way to write without a trace")]
    let write = |content: &str| unsafe {
        let memory = mmap(std::ptr::null_mut(), size, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &file, 0);
        let memory = memory.unwrap();
        // The first write to a page may update the times, later ones do not.
        memory.cast::<u8>().write(content.as_bytes()[0]);
        std::thread::sleep(Duration::from_millis(10));
        std::ptr::copy_nonoverlapping(content.as_ptr(), memory.cast(), size);
        munmap(memory, size).unwrap();
    };
    write(BINDINGS[1]);
    fixture.lets_in(true).await;
    write(BINDINGS[0]);
    fixture.lets_in(false).await;
}

#[tokio::test]
async fn another_scan_changes_nothing() {
    let (_, forbid) = pair();
    let often = |settings: &mut Settings| {
        (settings.verify_interval, settings.scan_interval) = (Duration::from_millis(20), Duration::from_millis(20));
    };
    let fixture = Fixture::set_up(&[("gate.wasm", &forbid), ("only.toml", BINDINGS[0].as_bytes())], often).await;
    let before = fixture.folder.status();
    for name in ["gate.wasm", "only.toml"] {
        set_modified(&fixture.path(name), SystemTime::now());
    }
    tokio::time::sleep(Duration::from_millis(800)).await;
    let after = fixture.folder.status();
    assert_eq!((after.generation, after.swaps, after.refusals), (before.generation, before.swaps, before.refusals));
}
