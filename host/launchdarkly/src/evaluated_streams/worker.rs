//! The task of a group: evaluates changes and publishes changed results to its clients.

use std::sync::Arc;

use yardarm_core::evaluators::EvaluatorError;
use yardarm_core::hooks::EvaluationTransform;
use yardarm_core::{Environment, Evaluators, InternalError, Snapshot, Supervised, Writer};

use super::SharedGroups;
use super::affected::Affected;
use super::delta::{Announced, Delta, MOST_EVENTS, Tombstones};
use super::results::{GroupResults, NextResults};
use crate::config::PLUGIN_RETRY;
use crate::data::FlagData;
use crate::evaluation::{Edits, EvaluationError, EvaluationRequest};

/// Follows the environment for one group.
pub(super) struct GroupWorker {
    streams: Arc<SharedGroups>,
    evaluation_request: EvaluationRequest,
    /// Whether the group may have several clients, which differ in facts about their requests.
    is_shared: bool,
    writer: Writer<Announced>,
    group: Environment<Announced>,
    /// The published results; `None` before there is data.
    results: Option<GroupResults>,
    /// The chain of plugins that edited them.
    chain: Option<Arc<dyn EvaluationTransform>>,
    tombstones: Tombstones,
}

impl GroupWorker {
    pub(super) fn new(
        streams: Arc<SharedGroups>,
        evaluation_request: EvaluationRequest,
        is_shared: bool,
        writer: Writer<Announced>,
        group: Environment<Announced>,
    ) -> Self {
        Self {
            streams,
            evaluation_request,
            is_shared,
            writer,
            group,
            results: None,
            chain: None,
            tombstones: Tombstones::default(),
        }
    }

    async fn follow(&mut self) {
        let mut versions = self.streams.data.update_source().versions();
        let mut plans = self.streams.hooks.changed();
        loop {
            // Marked as seen before reading, so that later changes wake this task.
            let seen = versions.borrow_and_update().seq;
            plans.borrow_and_update();
            let is_behind = match self.catch_up().await {
                Ok(is_current) => !is_current,
                Err(EvaluationError::Plugin(failure)) => {
                    self.streams.plugins_failed(&failure);
                    true
                }
                // Logged and counted by the evaluator.
                Err(EvaluationError::Evaluator(_)) => true,
            };
            tokio::select! {
                it = versions.wait_for(|version| version.seq != seen) => if it.is_err() {
                    return;
                },
                it = plans.changed() => if it.is_err() {
                    return;
                },
                () = tokio::time::sleep(PLUGIN_RETRY), if is_behind => (),
            }
        }
    }

    /// Publishes the changes of results since the last call, in one step. Returns false if the streams of the group have to
    /// end instead: one that is being opened may not be among those that were ended.
    pub(super) async fn catch_up(&mut self) -> Result<bool, EvaluationError> {
        let enrichment =
            self.streams.hooks.of(&self.streams.label).context_enrichment.as_ref().map_or(0, |it| it.identity());
        if enrichment != self.evaluation_request.enrichment {
            // The context that the clients sent is not kept, so they have to send it again.
            self.streams.end_all();
            return Ok(false);
        }
        if self.unpublished(self.chain_in_force().as_ref()).is_none() {
            return Ok(true);
        }
        let streams = Arc::clone(&self.streams);
        let Ok(_turn) = streams.permits.acquire().await else { return Ok(true) };
        // The newest data and plan, because the queue may have been long.
        let chain = self.chain_in_force();
        let Some(snapshot) = self.unpublished(chain.as_ref()) else { return Ok(true) };
        if self.is_shared && chain.as_ref().is_some_and(|chain| chain.reads_requests()) {
            streams.end_all();
            return Ok(false);
        }
        let is_member_of_others = self.look_up(&snapshot).await?;
        match &chain {
            // Any flag may depend on the memberships, and the data does not show which.
            None if is_member_of_others => self.go_on_with(self.view_of(snapshot, None).await?),
            None => self.go_on_to(snapshot).await?,
            Some(chain) => {
                let evaluators = self.evaluators();
                let edits = Edits::of_plugins(&**chain, &snapshot, &self.evaluation_request, evaluators).await?;
                streams.plugins_decided();
                self.go_on_with(self.view_of(snapshot, Some(edits)).await?);
            }
        }
        self.chain = chain;
        Ok(true)
    }

    /// Looks up the Big Segments of the context if flags refer to any; returns whether the memberships have changed.
    async fn look_up(&mut self, snapshot: &Arc<Snapshot<FlagData>>) -> Result<bool, EvaluatorError> {
        let before = self.evaluation_request.memberships.take();
        let evaluators = self.streams.evaluators.get(self.evaluation_request.kind.trust());
        self.evaluation_request.look_up(self.streams.store.as_deref(), snapshot, evaluators).await?;
        Ok(before != self.evaluation_request.memberships)
    }

    fn evaluators(&self) -> &Evaluators {
        self.streams.evaluators.get(self.evaluation_request.kind.trust())
    }

    /// Evaluates all flags.
    async fn view_of(
        &self,
        snapshot: Arc<Snapshot<FlagData>>,
        edits: Option<Edits>,
    ) -> Result<GroupResults, EvaluatorError> {
        let estimate = snapshot.data().ruleset().estimate(&self.evaluation_request.context);
        let evaluation_request = self.evaluation_request.clone();
        self.evaluators().run(estimate, move || GroupResults::of(snapshot, &evaluation_request, edits.as_ref())).await
    }

    fn chain_in_force(&self) -> Option<Arc<dyn EvaluationTransform>> {
        self.streams.hooks.of(&self.streams.label).evaluation_transform.clone()
    }

    /// The newest data; `None` if its results with `chain` are published already.
    fn unpublished(&self, chain: Option<&Arc<dyn EvaluationTransform>>) -> Option<Arc<Snapshot<FlagData>>> {
        let snapshot = self.streams.data.snapshot()?;
        let is_told = self.results.as_ref().is_some_and(|it| it.snapshot().seq() == snapshot.seq());
        let is_same_chain = match (&self.chain, chain) {
            (None, None) => true,
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            _ => false,
        };
        (!is_told || !is_same_chain).then_some(snapshot)
    }

    /// Without plugins only flags that the changes can affect are evaluated.
    async fn go_on_to(&mut self, snapshot: Arc<Snapshot<FlagData>>) -> Result<(), EvaluatorError> {
        if let Some(results) = self.results.take_if(|results| results.can_be_continued(false)) {
            if let Affected::These(keys) = self.streams.affected.get(results.snapshot(), &snapshot) {
                let estimate = snapshot.data().ruleset().estimate_some(keys.len(), &self.evaluation_request.context);
                let evaluation_request = self.evaluation_request.clone();
                // If it fails, the previous results are gone, and clients are sent a `put`.
                let go_on = move || results.go_on_to(snapshot, &keys, &evaluation_request);
                match self.evaluators().run(estimate, go_on).await? {
                    NextResults::Same(results) => self.results = Some(results),
                    NextResults::Other { results, next, keys } => {
                        let delta = Delta::between(&results, &next, &keys, &mut self.tombstones);
                        self.publish(delta, next);
                    }
                }
                return Ok(());
            }
            self.results = Some(results);
        }
        self.go_on_with(self.view_of(snapshot, None).await?);
        Ok(())
    }

    fn go_on_with(&mut self, next: GroupResults) {
        let Some(results) = self.results.take() else {
            self.publish(Delta::first(&next), next);
            return;
        };
        if results.differs_in_added(&next) {
            self.tombstones = Tombstones::default();
            self.publish(Delta::first(&next), next);
            return;
        }
        // One more than a step may have is enough to know.
        let differing = results.differences(&next, MOST_EVENTS + 1);
        if differing.is_empty() {
            self.results = Some(next.with_bytes_of(results));
        } else {
            let delta = Delta::between(&results, &next, &differing, &mut self.tombstones);
            self.publish(delta, next);
        }
    }

    fn publish(&mut self, delta: Delta, results: GroupResults) {
        self.writer.update(&delta);
        self.results = Some(results);
    }
}

impl Supervised for GroupWorker {
    /// Runs until dropped.
    async fn run(&mut self) {
        // Separate from the rest, because plugins may be slow and heartbeats must be punctual.
        let heartbeats = pass_on_heartbeats(self.streams.data.clone(), self.group.clone());
        tokio::select! {
            () = heartbeats => (),
            () = self.follow() => (),
        }
    }

    fn recover(&mut self, _: &InternalError) {
        // The results of clients may differ from the published ones, so they are sent a `put`.
        self.results = None;
        self.chain = None;
    }
}

/// Forwards heartbeats of the environment, which are sent on all streams at the same moment.
async fn pass_on_heartbeats(environment: Environment<FlagData>, group: Environment<Announced>) {
    let mut versions = environment.update_source().versions();
    loop {
        let heartbeat = versions.borrow_and_update().heartbeat;
        if versions.wait_for(|version| version.heartbeat != heartbeat).await.is_err() {
            return;
        }
        group.heartbeat();
    }
}
