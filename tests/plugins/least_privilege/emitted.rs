//! What a gateway emits, by place, and the search in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;
use yardarm_testkit::{Answer, Recorded};

use super::wait_for_calls;
use crate::program::{Program, Signal};

/// A text, and the places where it belongs.
pub(super) type Canary = (&'static str, &'static [Place]);

/// Where something is emitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// The host's lines of the log, and what it adds to those of plugins.
    HostLog,
    /// What plugins have logged.
    GuestLog,
    /// The admin listener: metrics, status, plugins, environments.
    Operators,
    /// Responses to SDKs.
    Responses,
    /// Requests to upstream, events among them.
    Upstream,
    /// The data folder.
    Disk,
}

/// Everything that was emitted, by place.
#[derive(Debug, Default)]
pub(super) struct Emitted(BTreeMap<Place, Vec<String>>);

impl Emitted {
    pub(super) fn add(&mut self, place: Place, texts: impl IntoIterator<Item = String>) {
        self.0.entry(place).or_default().extend(texts);
    }

    /// Adds the requests to a vendor's service.
    pub(super) fn add_upstream(&mut self, requests: Vec<Recorded>) {
        let shown = |it: Recorded| format!("{} {:?} {}", it.path, it.headers, String::from_utf8_lossy(&it.body()));
        self.add(Place::Upstream, requests.into_iter().map(shown));
    }

    /// Waits until all hooks were called, asks for all that operators can see, stops the gateway, and collects its log and its
    /// files.
    pub(super) async fn end(&mut self, program: Program, root: &Path) {
        wait_for_calls(&program).await;
        for path in ["/metrics", "/api/plugins", "/api/environments", "/api/status", "/ready", "/"] {
            self.add(Place::Operators, [shown(&program.operator_gets(path).await)]);
        }
        program.signal(Signal::TERM);
        let (status, log) = program.ends().await;
        assert!(status.success(), "{status}");
        for line in log {
            let (place, text) = logged(&line);
            self.add(place, [text]);
            self.add(Place::HostLog, [line_without_message(&line)]);
        }
        self.add(Place::Disk, files(&root.join("data")));
    }

    /// Returns the places of a canary, each with the text around its first occurrence.
    pub(super) fn find(&self, canary: &str) -> BTreeMap<Place, String> {
        let around = |text: &String| {
            let at = text.find(canary)?;
            let (start, end) = (text.floor_char_boundary(at.saturating_sub(300)), text.floor_char_boundary(at + 300));
            Some(text[start..end].to_owned())
        };
        self.0.iter().filter_map(|(place, texts)| Some((*place, texts.iter().find_map(around)?))).collect()
    }

    /// Panics unless the log of the plugin contains exactly those of the canaries that it could read.
    pub(super) fn assert_read(&self, canaries: &[Canary], read: &[&str]) {
        for (canary, _) in canaries {
            let is_logged = self.find(canary).contains_key(&Place::GuestLog);
            assert_eq!(is_logged, read.contains(canary), "{canary}");
        }
    }

    /// Panics if a canary is where it does not belong.
    pub(super) fn assert_in_place(&self, canaries: &[(&str, &[Place])]) {
        assert!(self.0.contains_key(&Place::GuestLog), "the plugin logs");
        let mut misplaced = Vec::new();
        for (canary, belongs) in canaries {
            let found = self.find(canary).into_iter().filter(|(place, _)| !belongs.contains(place));
            misplaced.extend(found.map(|it| (*canary, it)));
        }
        assert!(misplaced.is_empty(), "{misplaced:#?}");
    }
}

pub(super) fn shown(answer: &Answer) -> String {
    format!("{:?} {}", answer.headers, answer.text())
}

/// Returns what a line says: the plugin's own text, or all of a line of the host.
fn logged(line: &str) -> (Place, String) {
    let fields: Value = serde_json::from_str(line).unwrap_or_default();
    match fields["target"].as_str() {
        Some("yardarm::guest") => (Place::GuestLog, fields["message"].as_str().expect("a text").to_owned()),
        _ => (Place::HostLog, line.to_owned()),
    }
}

/// Returns what the host adds to the text of a line, such as the client whose request it is about.
fn line_without_message(line: &str) -> String {
    let mut fields: Value = serde_json::from_str(line).unwrap_or_default();
    fields["message"].take();
    fields.to_string()
}

/// Returns names and content of all files below a folder.
fn files(folder: &Path) -> Vec<String> {
    let (mut folders, mut files) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => folders.push(path),
                false => {
                    let content = fs::read(&path).expect("a file");
                    files.push(format!("{} {}", path.display(), String::from_utf8_lossy(&content)));
                }
            }
        }
    }
    files
}
