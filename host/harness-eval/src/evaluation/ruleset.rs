//! All flags and segments of an environment, ready to be evaluated.

use std::sync::Arc;

use super::compiled::{Compiled, CompiledFlag, CompiledSegment};
use super::outcome::{EvaluationError, Served};
use super::run::Run;
use crate::model::{Flag, Segment, Target};

/// Flags and segments, ready to be evaluated. A ruleset that follows from another one shares all unchanged items with it.
pub struct Ruleset(Compiled);

impl Ruleset {
    /// Compiles everything. Of two items with one identifier the first counts, as in the vendor's lists.
    #[must_use]
    pub fn build(flags: &[Arc<Flag>], segments: &[Arc<Segment>]) -> Self {
        Self(Compiled::build(flags, segments))
    }

    /// Compiles everything, and reuses what was compiled `before` for items that are the same.
    #[must_use]
    pub fn build_after(flags: &[Arc<Flag>], segments: &[Arc<Segment>], before: Option<&Self>) -> Self {
        match before {
            Some(before) => Self(before.0.changed_to(flags, segments)),
            None => Self::build(flags, segments),
        }
    }

    /// Returns the ruleset in which `flag` replaces the flag with its identifier.
    #[must_use]
    pub fn with_flag(&self, flag: &Arc<Flag>) -> Self {
        self.changed(|compiled| compiled.flags.set(Arc::new(CompiledFlag::new(flag))))
    }

    /// Returns the ruleset in which `segment` replaces the segment with its identifier.
    #[must_use]
    pub fn with_segment(&self, segment: &Arc<Segment>) -> Self {
        self.changed(|compiled| compiled.segments.set(Arc::new(CompiledSegment::new(segment))))
    }

    /// Returns the ruleset without a flag.
    #[must_use]
    pub fn without_flag(&self, feature: &str) -> Self {
        self.changed(|compiled| compiled.flags.remove(feature))
    }

    /// Returns the ruleset without a segment.
    #[must_use]
    pub fn without_segment(&self, identifier: &str) -> Self {
        self.changed(|compiled| compiled.segments.remove(identifier))
    }

    fn changed(&self, change: impl FnOnce(&mut Compiled)) -> Self {
        let mut compiled = self.0.clone();
        change(&mut compiled);
        Self(compiled)
    }

    /// Returns the flag of an identifier.
    #[must_use]
    pub fn flag(&self, feature: &str) -> Option<&Flag> {
        Some(&self.0.flags.find(feature)?.item)
    }

    /// Returns the segment of an identifier.
    #[must_use]
    pub fn segment(&self, identifier: &str) -> Option<&Segment> {
        Some(&self.0.segments.find(identifier)?.item)
    }

    /// Evaluates one flag; without a target, only the default serves.
    ///
    /// # Errors
    /// When there is no such flag, or its configuration serves nothing.
    pub fn evaluate(&self, feature: &str, target: Option<&Target>) -> Result<Served<'_>, EvaluationError> {
        let flag = self.0.flags.find(feature).ok_or(EvaluationError::UnknownFlag)?;
        let (_, position) = self.decide_one(feature, target)?;
        Ok(flag.served(position))
    }

    /// Returns the number of a flag, and the position of the variation it serves.
    ///
    /// # Errors
    /// When there is no such flag, or its configuration serves nothing.
    pub fn decide_one(&self, feature: &str, target: Option<&Target>) -> Result<(usize, usize), EvaluationError> {
        let number = self.0.flags.number(feature).ok_or(EvaluationError::UnknownFlag)?;
        Run::new(&self.0, target).evaluate(number).map(|position| (number, position))
    }

    /// Returns the numbers of all flags in order of identifier, with the positions of the variations that they serve.
    #[must_use]
    pub fn decide_all(&self, target: &Target) -> Vec<(usize, Result<usize, EvaluationError>)> {
        let mut run = Run::new(&self.0, Some(target));
        self.0.flags.sorted().iter().map(|number| (*number, run.evaluate(*number))).collect()
    }

    /// Returns the flag with a number, and its variation at a position. `None` if no decision gave that number.
    #[must_use]
    pub fn served(&self, number: usize, position: Option<usize>) -> Option<(&Flag, Option<Served<'_>>)> {
        let flag = self.0.flags.get(number)?;
        Some((&flag.item, position.map(|it| flag.served(it))))
    }

    /// Returns how many comparisons an evaluation of everything takes at most, approximately.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.0.weight()
    }

    /// Evaluates every flag, in order of identifier.
    pub fn evaluate_all<'a>(
        &'a self,
        target: &Target,
        visit: &mut dyn FnMut(&'a Flag, Result<Served<'a>, EvaluationError>),
    ) {
        for (number, decided) in self.decide_all(target) {
            if let Some(flag) = self.0.flags.get(number) {
                visit(&flag.item, decided.map(|position| flag.served(position)));
            }
        }
    }
}
