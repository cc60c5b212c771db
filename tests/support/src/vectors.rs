//! The vendors' evaluation vectors (launchdarkly/sdk-test-harness, harness/ff-golang-server-sdk). They are not part of
//! this repository.

use std::path::{Path, PathBuf};

/// The environment variable that names the folder of vectors.
const VARIABLE: &str = "YARDARM_VECTORS";

/// Returns the folder `name` of the vendors' vectors, or `None` with a note when there is none on a developer's
/// machine.
///
/// # Panics
/// In CI when the vectors are missing: a test that cannot run there is a failed test.
#[must_use]
#[expect(clippy::print_stderr, reason = "a skipped test prints a note")]
pub fn vectors(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os(VARIABLE).map(|root| Path::new(&root).join(name));
    let is_present = folder.as_ref().is_some_and(|it| it.is_dir());
    let is_required = std::env::var_os("CI").is_some() || folder.is_some();
    assert!(is_present || !is_required, "{VARIABLE} must name a folder that has the folder `{name}`");
    if !is_present {
        eprintln!("skipped: {VARIABLE} is not set");
    }
    folder.filter(|_| is_present)
}
