//! Failed calls that are kept, so that they can be repeated elsewhere.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use yardarm_core::time::unix_ms;

use super::description::{Described, describe};
use super::format::Case;
use super::reply::Reply;
use crate::runtime::capture::CaptureSink;
use crate::runtime::guest::PluginContext;
use crate::runtime::interface::AnyCall;
use crate::vocabulary::{CallError, FieldClass, Hook, clean};

/// Maximum number of calls that are kept, of all plugins.
const MOST: usize = 100;
/// Maximum number of calls of one plugin, hook and class of failure, so that one failure does not displace all others.
const MOST_ALIKE: usize = 10;
/// Milliseconds after which one of them is replaced by a newer one.
const RENEWAL_MS: u64 = 1_000;
/// Maximum size of all of them, roughly.
const LARGEST_TOTAL: usize = 8 << 20;

/// A failed call.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Capture {
    /// Number of the capture, which grows.
    pub number: u64,
    /// Unix milliseconds.
    pub at_ms: u64,
    /// Name of the plugin.
    pub plugin: String,
    /// Version that it declares.
    pub version: String,
    /// Number of that version.
    pub generation: u64,
    /// Identifier of the request, if the call was made for one.
    pub request: Option<String>,
    /// Stable code of the failure, such as `C01`.
    pub code: String,
    /// Class of the failure, such as `trap`.
    pub class: String,
    /// Message.
    pub text: String,
    /// Fields that are as they were; all others are masked.
    pub plain: Vec<FieldClass>,
    /// Number of events, items or results that are left out because the input is too large.
    pub left_out: usize,
    /// The input, and the failure as the expected reply.
    #[schema(value_type = HashMap<String, serde_json::Value>)]
    pub case: Case,
}

/// The fields that captures have as they were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PlainFields(u8);

/// The captures of a gateway.
#[derive(Default)]
pub(crate) struct Captures {
    plain: PlainFields,
    count: AtomicU64,
    kept: Mutex<VecDeque<Kept>>,
}

struct Kept {
    capture: Capture,
    size: usize,
}

impl PlainFields {
    pub(super) fn contains(self, class: FieldClass) -> bool {
        self.0 & (1 << class as u8) != 0
    }

    fn names(self) -> Vec<FieldClass> {
        FieldClass::ALL.into_iter().filter(|class| self.contains(*class)).collect()
    }
}

impl FromIterator<FieldClass> for PlainFields {
    fn from_iter<I: IntoIterator<Item = FieldClass>>(classes: I) -> Self {
        Self(classes.into_iter().fold(0, |all, class| all | 1 << class as u8))
    }
}

impl Captures {
    pub(crate) fn new(plain: &[FieldClass]) -> Self {
        Self { plain: plain.iter().copied().collect(), ..Self::default() }
    }

    /// Returns the captures of a plugin, the newest first.
    pub(crate) fn of(&self, plugin: &str) -> Vec<Capture> {
        let kept = self.kept.lock();
        kept.iter().rev().map(|it| &it.capture).filter(|it| it.plugin == plugin).cloned().collect()
    }

    /// Returns whether a failure is worth the time of writing it down, which its request waits for: there are few like it, or
    /// the last one is old.
    fn admits(&self, plugin: &str, hook: Hook, class: &str, now_ms: u64) -> bool {
        let kept = self.kept.lock();
        let mut alike = kept.iter().rev().filter(|it| it.is_like(plugin, hook, class)).map(|it| it.capture.at_ms);
        let is_old = alike.next().is_none_or(|at_ms| now_ms.saturating_sub(at_ms) >= RENEWAL_MS);
        is_old || alike.count() + 1 < MOST_ALIKE
    }

    fn add(&self, capture: Capture) {
        let size = serde_json::to_vec(&capture).map_or(0, |json| json.len());
        let mut kept = self.kept.lock();
        let is_alike = |it: &Kept| it.is_like(&capture.plugin, capture.case.hook, &capture.class);
        if kept.iter().filter(|it| is_alike(it)).count() >= MOST_ALIKE
            && let Some(oldest) = kept.iter().position(is_alike)
        {
            kept.remove(oldest);
        }
        kept.push_back(Kept { capture, size });
        let mut total: usize = kept.iter().map(|it| it.size).sum();
        while kept.len() > MOST || total > LARGEST_TOTAL && kept.len() > 1 {
            total -= kept.pop_front().map_or(0, |it| it.size);
        }
    }
}

impl Kept {
    fn is_like(&self, plugin: &str, hook: Hook, class: &str) -> bool {
        let known = &self.capture;
        known.plugin == plugin && known.case.hook == hook && known.class == class
    }
}

impl CaptureSink for Captures {
    fn capture(&self, plugin: &PluginContext, call: AnyCall, error: &CallError) {
        // Failures that are not about the input are of no use.
        if matches!(
            error,
            CallError::PoolExhausted | CallError::CpuShare | CallError::BreakerOpen | CallError::MissingRequired
        ) {
            return;
        }
        let (at_ms, class) = (unix_ms(), error.outcome().name());
        if !self.admits(&plugin.name, call.hook(), class, at_ms) {
            return;
        }
        let number = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let mut expect = Reply::of_error(error);
        if let Reply::Failure(failure) = &mut expect {
            // Masks change what a guest writes about its input.
            failure.text = None;
        }
        let name = format!("capture {number}: {class}");
        let Described { case, left_out } = describe(plugin, &call, self.plain, (name, at_ms, expect));
        self.add(Capture {
            number,
            at_ms,
            plugin: plugin.name.to_string(),
            version: plugin.version.version.to_string(),
            generation: plugin.version.generation,
            request: call.request().map(|it| it.facts.id.to_string()),
            code: error.code().to_owned(),
            class: class.to_owned(),
            text: clean(&error.to_string()),
            plain: self.plain.names(),
            left_out,
            case,
        });
    }
}
