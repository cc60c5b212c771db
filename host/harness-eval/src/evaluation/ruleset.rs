//! All flags and segments of an environment, ready to be evaluated.

use std::sync::Arc;

use super::compiled::Compiled;
use super::outcome::{EvaluationError, Served};
use super::run::Run;
use crate::model::{Flag, Segment, Target};

/// Flags and segments, ready to be evaluated.
pub struct Ruleset(Compiled);

impl Ruleset {
    /// Compiles everything. Of two items with one identifier the first counts, as in the vendor's lists.
    #[must_use]
    pub fn build(flags: &[Arc<Flag>], segments: &[Arc<Segment>]) -> Self {
        Self::build_after(flags, segments, None)
    }

    /// Compiles everything, and reuses what was compiled `before` for items that are the same.
    #[must_use]
    pub fn build_after(flags: &[Arc<Flag>], segments: &[Arc<Segment>], before: Option<&Self>) -> Self {
        Self(Compiled::build(flags, segments, before.map(|it| &it.0)))
    }

    /// Returns the flag of an identifier.
    #[must_use]
    pub fn flag(&self, feature: &str) -> Option<&Flag> {
        Some(&self.0.flag(feature)?.item)
    }

    /// Returns the segment of an identifier.
    #[must_use]
    pub fn segment(&self, identifier: &str) -> Option<&Segment> {
        Some(&self.0.segment(identifier)?.item)
    }

    /// Evaluates one flag; without a target, only the default serves.
    ///
    /// # Errors
    /// When there is no such flag, or its configuration serves nothing.
    pub fn evaluate(&self, feature: &str, target: Option<&Target>) -> Result<Served<'_>, EvaluationError> {
        let (index, position) = self.decide_one(feature, target)?;
        Ok(self.0.flags[index].served(position))
    }

    /// Returns the position of a flag, and that of the variation it serves.
    ///
    /// # Errors
    /// When there is no such flag, or its configuration serves nothing.
    pub fn decide_one(&self, feature: &str, target: Option<&Target>) -> Result<(usize, usize), EvaluationError> {
        let index = *self.0.flag_index.get(feature).ok_or(EvaluationError::UnknownFlag)?;
        Run::new(&self.0, target).evaluate(index).map(|position| (index, position))
    }

    /// Returns the positions of the variations that all flags serve, in order of identifier.
    #[must_use]
    pub fn decide_all(&self, target: &Target) -> Vec<Result<usize, EvaluationError>> {
        let mut run = Run::new(&self.0, Some(target));
        (0..self.0.flags.len()).map(|index| run.evaluate(index)).collect()
    }

    /// Returns the flag at an index of [`Ruleset::decide_all`], and its variation at a position.
    #[must_use]
    pub fn served(&self, index: usize, position: Option<usize>) -> (&Flag, Option<Served<'_>>) {
        let flag = &self.0.flags[index];
        (&flag.item, position.map(|it| flag.served(it)))
    }

    /// Returns how many comparisons an evaluation of everything takes at most, approximately.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.0.weight
    }

    /// Evaluates every flag, in order of identifier.
    pub fn evaluate_all<'a>(
        &'a self,
        target: &Target,
        visit: &mut dyn FnMut(&'a Flag, Result<Served<'a>, EvaluationError>),
    ) {
        for (flag, decided) in self.0.flags.iter().zip(self.decide_all(target)) {
            visit(&flag.item, decided.map(|position| flag.served(position)));
        }
    }
}
