//! The last failed calls of a plugin, with what is needed to find their cause.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use utoipa::ToSchema;
use yardarm_core::EnvironmentLabel;
use yardarm_core::hooks::RequestId;
use yardarm_core::time::unix_ms;

use super::{CallError, Hook, clean};

/// Maximum number of errors that are kept per hook.
const MOST: usize = 20;

/// The last errors of one hook of a plugin, kept across its generations. The same error several times in a row is one
/// entry.
#[derive(Debug, Default)]
pub(crate) struct LastErrors(Mutex<VecDeque<Entry>>);

/// A version of a plugin that was called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CalledVersion {
    /// Version that the plugin declares.
    pub(crate) version: Arc<str>,
    pub(crate) generation: u64,
}

#[derive(Debug)]
struct Entry {
    error: CallError,
    /// `None` if no version ran.
    called: Option<CalledVersion>,
    environment: EnvironmentLabel,
    request: Option<RequestId>,
    first_ms: u64,
    last_ms: u64,
    times: u64,
}

/// A failed call, or several in a row that failed in the same way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct LastError {
    /// The hook.
    pub hook: Hook,
    /// Stable code, such as `C01`.
    pub code: &'static str,
    /// Class, such as `trap`.
    pub class: &'static str,
    /// Message.
    pub text: String,
    /// How many calls in a row failed like this.
    pub times: u64,
    /// Unix milliseconds of the first of them.
    pub first_ms: u64,
    /// Unix milliseconds of the last of them.
    pub at_ms: u64,
    /// Identifier of the request of the last of them, if it was made for one.
    pub request: Option<String>,
    /// Environment of the last of them.
    pub environment: String,
    /// Version that was called; `None` if none ran.
    pub version: Option<String>,
    /// Number of that version.
    pub generation: Option<u64>,
}

impl LastErrors {
    /// Adds a failed call.
    pub(crate) fn add(
        &self,
        error: &CallError,
        called: Option<&CalledVersion>,
        environment: &EnvironmentLabel,
        request: Option<RequestId>,
    ) {
        let now = unix_ms();
        let mut entries = self.0.lock();
        if let Some(last) = entries.back_mut()
            && last.error == *error
            && last.called.as_ref() == called
        {
            (last.last_ms, last.request, last.times) = (now, request, last.times + 1);
            last.environment.clone_from(environment);
            return;
        }
        if entries.len() >= MOST {
            entries.pop_front();
        }
        entries.push_back(Entry {
            error: error.clone(),
            called: called.cloned(),
            environment: environment.clone(),
            request,
            first_ms: now,
            last_ms: now,
            times: 1,
        });
    }

    /// Returns the errors, the newest first.
    pub(super) fn read(&self, hook: Hook) -> Vec<LastError> {
        self.0.lock().iter().rev().map(|entry| entry.read(hook)).collect()
    }
}

impl Entry {
    fn read(&self, hook: Hook) -> LastError {
        LastError {
            hook,
            code: self.error.code(),
            class: self.error.outcome().name(),
            text: clean(&self.error.to_string()),
            times: self.times,
            first_ms: self.first_ms,
            at_ms: self.last_ms,
            request: self.request.map(|id| id.to_string()),
            environment: self.environment.to_string(),
            version: self.called.as_ref().map(|called| called.version.to_string()),
            generation: self.called.as_ref().map(|called| called.generation),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_errors_are_one_entry_and_their_number_is_bounded() {
        let errors = LastErrors::default();
        let (environment, request) = (EnvironmentLabel::new("vendor", "prod"), RequestId::next());
        let called = CalledVersion { version: "1.0.0".into(), generation: 1 };
        for _ in 0..3 {
            errors.add(&CallError::Deadline, Some(&called), &environment, Some(request));
        }
        let newer = CalledVersion { generation: 2, ..called.clone() };
        errors.add(&CallError::Deadline, Some(&newer), &environment, None);
        let read = errors.read(Hook::RequestAuth);
        assert_eq!(read.iter().map(|it| (it.generation, it.times)).collect::<Vec<_>>(), [(Some(2), 1), (Some(1), 3)]);
        assert_eq!((read[1].request.clone(), &*read[1].environment), (Some(request.to_string()), "vendor/prod"));
        for size in 0..50 {
            errors.add(&CallError::InputTooLarge { size }, None, &environment, None);
        }
        let read = errors.read(Hook::RequestAuth);
        assert_eq!((read.len(), read[0].version.as_ref()), (MOST, None));
        assert!(read[0].text.contains("49 bytes"), "the newest comes first: {}", read[0].text);
    }
}
