//! Plans with a plugin that hides some flags and replaces the values of others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use yardarm_core::EnvironmentLabel;
use yardarm_core::hooks::{
    EnvironmentHooks, EvaluationFacts, EvaluationTransform, HookFailure, HookFuture, Plan, ReplacedResult,
    ResultChange, ResultEdits, ResultView, ViewedResult,
};

/// The edits of the plugin, by the key of a flag.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Doing {
    pub(super) hides: Vec<&'static str>,
    pub(super) pins: Vec<&'static str>,
    /// The value of an added flag.
    pub(super) adds: Option<u8>,
    pub(super) fails: bool,
}

/// On two lines, which plugins may return.
const PINNED: &[u8] = b"{\"pinned\":\r\n1}";
/// The key of the added flag.
pub(super) const ADDED: &str = "zz-added";

/// A plugin that changes nothing and fails while its flag is set.
pub(super) struct Flaky(pub(super) Arc<AtomicBool>);

/// A plugin that reads facts about requests and changes nothing.
pub(super) struct Nosy;

/// A slow plugin that changes nothing and counts its calls: the current ones, and the most at once.
#[derive(Default)]
pub(super) struct Slow(pub(super) Arc<(AtomicUsize, AtomicUsize)>);

struct Only(Arc<EnvironmentHooks>);

/// A plan with one plugin.
fn with(transform: Arc<dyn EvaluationTransform>) -> Arc<dyn Plan> {
    let hooks = EnvironmentHooks { evaluation_transform: Some(transform), ..EnvironmentHooks::default() };
    Arc::new(Only(Arc::new(hooks)))
}

impl Flaky {
    pub(super) fn plan(self) -> Arc<dyn Plan> {
        with(Arc::new(self))
    }
}

impl EvaluationTransform for Flaky {
    fn transform<'a>(
        &'a self,
        _: &'a EvaluationFacts,
        _: Arc<dyn ResultView>,
    ) -> HookFuture<'a, Result<ResultEdits, HookFailure>> {
        let fails = self.0.load(Ordering::Relaxed);
        let failure = HookFailure { plugin: "flaky".into(), class: "trap" };
        Box::pin(async move { if fails { Err(failure) } else { Ok(ResultEdits::default()) } })
    }
}

impl Nosy {
    pub(super) fn plan(self) -> Arc<dyn Plan> {
        with(Arc::new(self))
    }
}

impl EvaluationTransform for Nosy {
    fn reads_requests(&self) -> bool {
        true
    }

    fn transform<'a>(
        &'a self,
        _: &'a EvaluationFacts,
        _: Arc<dyn ResultView>,
    ) -> HookFuture<'a, Result<ResultEdits, HookFailure>> {
        Box::pin(std::future::ready(Ok(ResultEdits::default())))
    }
}

impl Slow {
    pub(super) fn plan(self) -> Arc<dyn Plan> {
        with(Arc::new(self))
    }
}

impl EvaluationTransform for Slow {
    fn transform<'a>(
        &'a self,
        _: &'a EvaluationFacts,
        _: Arc<dyn ResultView>,
    ) -> HookFuture<'a, Result<ResultEdits, HookFailure>> {
        Box::pin(async move {
            let (now, most) = &*self.0;
            most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(100)).await;
            now.fetch_sub(1, Ordering::Relaxed);
            Ok(ResultEdits::default())
        })
    }
}

impl Doing {
    pub(super) fn plan(self) -> Arc<dyn Plan> {
        with(Arc::new(self))
    }

    pub(super) fn hides(&self, key: &str) -> bool {
        self.hides.contains(&key)
    }

    pub(super) fn pins(&self, key: &str) -> bool {
        self.pins.contains(&key)
    }
}

pub(super) fn no_plugins() -> Arc<dyn Plan> {
    Arc::new(Only(Arc::default()))
}

impl Plan for Only {
    fn generation(&self) -> u64 {
        1
    }

    fn environment(&self, _: &EnvironmentLabel) -> Arc<EnvironmentHooks> {
        Arc::clone(&self.0)
    }
}

impl EvaluationTransform for Doing {
    fn transform<'a>(
        &'a self,
        _: &'a EvaluationFacts,
        results: Arc<dyn ResultView>,
    ) -> HookFuture<'a, Result<ResultEdits, HookFailure>> {
        Box::pin(async move {
            if self.fails {
                return Err(HookFailure { plugin: "doing".into(), class: "deadline" });
            }
            let changes = (0..results.len()).filter_map(|index| {
                let flag = results.flag(index)?;
                if self.hides(flag) {
                    return Some((index, ResultChange::Drop));
                }
                let pinned = ReplacedResult { value: Some(Bytes::from_static(PINNED)), ..ReplacedResult::default() };
                self.pins(flag).then_some((index, ResultChange::Replace(pinned)))
            });
            let added = self.adds.map(|value| ViewedResult {
                flag: ADDED.into(),
                value: value.to_string().into(),
                variation: Some(7),
                reason: Some(Bytes::from_static(b"{\"kind\":\n\"OFF\"}")),
            });
            Ok(ResultEdits { changes: changes.collect(), added: added.into_iter().collect() })
        })
    }
}
