//! The task of a group: whatever changes, its clients hear of what that makes of their results.

use std::sync::Arc;

use yardarm_core::evaluators::EvaluatorError;
use yardarm_core::hooks::EvaluationTransform;
use yardarm_core::{Environment, Evaluators, InternalError, Snapshot, Supervised, Writer};

use super::Shared;
use super::step::{Announced, MOST_EVENTS, Step, Tombstones};
use super::touched::Touched;
use super::view::{Next, View};
use crate::dataset::FlagData;
use crate::question::{Edits, NoAnswer, Question};
use crate::upstream::apply::PLUGIN_RETRY;

/// Follows the environment for one group.
pub(super) struct Follower {
    streams: Arc<Shared>,
    question: Question,
    writer: Writer<Announced>,
    group: Environment<Announced>,
    /// What clients have been told, once there was data.
    view: Option<View>,
    /// The chain that had a say in it.
    chain: Option<Arc<dyn EvaluationTransform>>,
    tombstones: Tombstones,
}

impl Follower {
    pub(super) fn new(
        streams: Arc<Shared>,
        question: Question,
        writer: Writer<Announced>,
        group: Environment<Announced>,
    ) -> Self {
        Self { streams, question, writer, group, view: None, chain: None, tombstones: Tombstones::default() }
    }

    async fn follow(&mut self) {
        let mut pulses = self.streams.data.source().pulses();
        let mut plans = self.streams.hooks.changed();
        loop {
            // Marked as seen before the look, so that what happens after the look wakes us.
            let seen = pulses.borrow_and_update().seq;
            plans.borrow_and_update();
            let is_behind = match self.catch_up().await {
                Ok(()) => false,
                Err(NoAnswer::Plugin(failure)) => {
                    self.streams.plugins_failed(&failure);
                    true
                }
                // It has been logged and counted where it happened.
                Err(NoAnswer::Evaluator(_)) => true,
            };
            tokio::select! {
                it = pulses.wait_for(|pulse| pulse.seq != seen) => if it.is_err() {
                    return;
                },
                it = plans.changed() => if it.is_err() {
                    return;
                },
                () = tokio::time::sleep(PLUGIN_RETRY), if is_behind => (),
            }
        }
    }

    /// Tells clients what has become of their results since they were told last, in one step.
    pub(super) async fn catch_up(&mut self) -> Result<(), NoAnswer> {
        if self.news(self.chain_in_force().as_ref()).is_none() {
            return Ok(());
        }
        let streams = Arc::clone(&self.streams);
        let Ok(_turn) = streams.turns.acquire().await else { return Ok(()) };
        // The newest data and the newest plan: there may have been a long queue.
        let chain = self.chain_in_force();
        let Some(snapshot) = self.news(chain.as_ref()) else { return Ok(()) };
        let is_member_of_others = self.look_up(&snapshot).await?;
        match &chain {
            // Any flag may depend on it, and nothing in the data says which.
            None if is_member_of_others => self.go_on_with(self.view_of(snapshot, None).await?),
            None => self.go_on_to(snapshot).await?,
            Some(chain) => {
                let (label, evaluators) = (&streams.label, self.evaluators());
                let edits = Edits::ask(&**chain, label, &snapshot, &self.question, evaluators).await?;
                streams.plugins_decided();
                self.go_on_with(self.view_of(snapshot, Some(edits)).await?);
            }
        }
        self.chain = chain;
        Ok(())
    }

    /// Looks up the Big Segments of the context where flags ask for any; says whether the answer is another one than before.
    async fn look_up(&mut self, snapshot: &Arc<Snapshot<FlagData>>) -> Result<bool, EvaluatorError> {
        let before = self.question.memberships.take();
        let evaluators = self.streams.evaluators.get(self.question.kind.trust());
        self.question.look_up(self.streams.store.as_deref(), snapshot, evaluators).await?;
        Ok(before != self.question.memberships)
    }

    fn evaluators(&self) -> &Evaluators {
        self.streams.evaluators.get(self.question.kind.trust())
    }

    /// Evaluates everything.
    async fn view_of(&self, snapshot: Arc<Snapshot<FlagData>>, edits: Option<Edits>) -> Result<View, EvaluatorError> {
        let estimate = snapshot.data().ruleset().estimate(&self.question.context);
        let question = self.question.clone();
        self.evaluators().run(estimate, move || View::of(snapshot, &question, edits.as_ref())).await
    }

    fn chain_in_force(&self) -> Option<Arc<dyn EvaluationTransform>> {
        self.streams.hooks.of(&self.streams.label).evaluation_transform.clone()
    }

    /// The newest data, unless clients have been told all that it and `chain` make of their results.
    fn news(&self, chain: Option<&Arc<dyn EvaluationTransform>>) -> Option<Arc<Snapshot<FlagData>>> {
        let snapshot = self.streams.data.snapshot()?;
        let is_told = self.view.as_ref().is_some_and(|it| it.snapshot().seq() == snapshot.seq());
        let is_same_chain = match (&self.chain, chain) {
            (None, None) => true,
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            _ => false,
        };
        (!is_told || !is_same_chain).then_some(snapshot)
    }

    /// Without plugins only what the changes since then can touch is looked at.
    async fn go_on_to(&mut self, snapshot: Arc<Snapshot<FlagData>>) -> Result<(), EvaluatorError> {
        if let Some(view) = self.view.take_if(|view| view.can_be_continued(false)) {
            if let Touched::These(keys) = self.streams.touched.get(view.snapshot(), &snapshot) {
                let estimate = snapshot.data().ruleset().estimate_some(keys.len(), &self.question.context);
                let question = self.question.clone();
                // Should it fail, there is no view any more, and clients are sent everything.
                let go_on = move || view.go_on_to(snapshot, &keys, &question);
                match self.evaluators().run(estimate, go_on).await? {
                    Next::Same(view) => self.view = Some(view),
                    Next::Other { view, next, keys } => {
                        let step = Step::between(&view, &next, &keys, &mut self.tombstones);
                        self.tell(step, next);
                    }
                }
                return Ok(());
            }
            self.view = Some(view);
        }
        self.go_on_with(self.view_of(snapshot, None).await?);
        Ok(())
    }

    fn go_on_with(&mut self, next: View) {
        let Some(view) = self.view.take() else {
            self.tell(Step::first(&next), next);
            return;
        };
        // One more than can be told in parts is enough to know.
        let differing = view.differences(&next, MOST_EVENTS + 1);
        if differing.is_empty() {
            self.view = Some(next.with_bytes_of(view));
        } else {
            let step = Step::between(&view, &next, &differing, &mut self.tombstones);
            self.tell(step, next);
        }
    }

    fn tell(&mut self, step: Step, view: View) {
        self.writer.update(&step);
        self.view = Some(view);
    }
}

impl Supervised for Follower {
    /// Goes on until it is dropped.
    async fn run(&mut self) {
        // Apart from the rest, because plugins may take their time and heartbeats may not.
        let beats = pass_on_heartbeats(self.streams.data.clone(), self.group.clone());
        tokio::select! {
            () = beats => (),
            () = self.follow() => (),
        }
    }

    fn recover(&mut self, _: &InternalError) {
        // What clients hold may differ from the view, so they are sent everything.
        self.view = None;
        self.chain = None;
    }
}

/// Heartbeats of all streams of an environment come at the same moment.
async fn pass_on_heartbeats(environment: Environment<FlagData>, group: Environment<Announced>) {
    let mut pulses = environment.source().pulses();
    loop {
        let beat = pulses.borrow_and_update().beat;
        if pulses.wait_for(|pulse| pulse.beat != beat).await.is_err() {
            return;
        }
        group.beat();
    }
}
