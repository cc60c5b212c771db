//! One target against a ruleset.

use super::attribute;
use super::bucket::bucket;
use super::clause::Condition;
use super::ruleset::{CompiledFlag, Ruleset, Serves};
use super::{EvaluationError, Served};
use crate::model::{Distribution, Target};

/// Steps into prerequisites and segments for one flag. Real configurations need a few dozen; only cycles, which the
/// vendor's evaluators do not survive, need more.
const MAX_STEPS: usize = 10_000;

/// An evaluation under way.
pub(super) struct Run<'a, 't> {
    ruleset: &'a Ruleset,
    target: Option<&'t Target>,
    /// Flags whose prerequisites are being looked at, to notice cycles.
    flags_on_path: Vec<usize>,
    segments_on_path: Vec<usize>,
    steps: usize,
}

/// What one segment says of a target.
enum Membership {
    Included,
    /// Later segments are not asked.
    Excluded,
    Unsaid,
}

impl<'a, 't> Run<'a, 't> {
    pub(super) fn new(ruleset: &'a Ruleset, target: Option<&'t Target>) -> Self {
        Self { ruleset, target, flags_on_path: Vec::new(), segments_on_path: Vec::new(), steps: 0 }
    }

    pub(super) fn evaluate(&mut self, index: usize) -> Result<Served<'a>, EvaluationError> {
        self.steps = 0;
        let flag = &self.ruleset.flags[index];
        if self.has_prerequisites_met(index) { self.serve(flag) } else { find(flag, &flag.item.off_variation) }
    }

    /// Section 7.2: what the flag serves by itself.
    fn serve(&mut self, flag: &'a CompiledFlag) -> Result<Served<'a>, EvaluationError> {
        let item = &*flag.item;
        let mut variation: &str = "";
        if item.state == "on" {
            if self.target.is_some() {
                variation = self.mapped(flag);
                if variation.is_empty() {
                    variation = self.ruled(flag);
                }
            }
            if variation.is_empty() {
                variation = item.default_serve.distribution.as_ref().map_or("", |it| self.distributed(it));
            }
            if variation.is_empty() {
                variation = item.default_serve.variation.as_deref().unwrap_or_default();
            }
        } else {
            variation = &item.off_variation;
        }
        if variation.is_empty() {
            return Err(EvaluationError::NothingServed(item.feature.to_string()));
        }
        find(flag, variation)
    }

    /// Section 7.3.
    fn mapped(&mut self, flag: &'a CompiledFlag) -> &'a str {
        let Some(target) = self.target else { return "" };
        for entry in &flag.item.variation_map {
            let is_named =
                entry.targets.iter().any(|it| !it.identifier.is_empty() && it.identifier == target.identifier);
            if is_named || entry.target_segments.as_deref().is_some_and(|it| self.is_in_any(it)) {
                return &entry.variation;
            }
        }
        ""
    }

    /// Section 7.4.
    fn ruled(&mut self, flag: &'a CompiledFlag) -> &'a str {
        for rule in &flag.rules {
            if !rule.conditions.iter().all(|it| self.is_met(it)) {
                continue;
            }
            match &rule.serves {
                // Final even where it serves nothing: then the default decides.
                Serves::Distribution(distribution) => return self.distributed(distribution),
                Serves::Variation(variation) => return variation,
                Serves::Nothing => (),
            }
        }
        ""
    }

    /// Section 7.6.
    fn distributed(&self, distribution: &'a Distribution) -> &'a str {
        let bucket = self.bucket(&distribution.bucket_by);
        let (mut total, mut last) = (0_i64, "");
        for share in &distribution.variations {
            last = &share.variation;
            total = total.saturating_add(share.weight);
            if total > 0 && bucket.is_some_and(|it| i64::from(it) <= total) {
                return last;
            }
        }
        last
    }

    /// The target's bucket by an attribute, or by its identifier where it has none of it.
    fn bucket(&self, attribute: &str) -> Option<u32> {
        let target = self.target?;
        let value = attribute::text(target, attribute);
        if !value.is_empty() {
            return Some(bucket(attribute, &value));
        }
        (!target.identifier.is_empty()).then(|| bucket("identifier", &target.identifier))
    }

    /// Section 7.7. What cannot be looked at counts as met.
    fn has_prerequisites_met(&mut self, index: usize) -> bool {
        if self.flags_on_path.contains(&index) || self.is_exhausted() {
            return true;
        }
        self.flags_on_path.push(index);
        let is_met = self.are_met_inside(index);
        self.flags_on_path.pop();
        is_met
    }

    fn are_met_inside(&mut self, index: usize) -> bool {
        let ruleset = self.ruleset;
        for prerequisite in &ruleset.flags[index].item.prerequisites {
            let Some(other) = ruleset.flag_index.get(prerequisite.feature.as_str()) else { return true };
            let Ok(served) = self.serve(&ruleset.flags[*other]) else { return true };
            if !prerequisite.variations.iter().any(|it| it == served.identifier) || !self.has_prerequisites_met(*other)
            {
                return false;
            }
        }
        true
    }

    fn is_met(&mut self, condition: &Condition) -> bool {
        match condition {
            Condition::Never => false,
            Condition::Segments(segments) => self.is_in_any(segments),
            Condition::Attribute { name, test } => self.target.is_some_and(|target| {
                let text = attribute::text(target, name);
                !text.is_empty() && test.passes(&text)
            }),
        }
    }

    /// Section 7.5.1: segments are asked in order, and an exclusion ends the search.
    fn is_in_any<S: AsRef<str>>(&mut self, segments: &[S]) -> bool {
        for identifier in segments {
            let Some(index) = self.ruleset.segment_index.get(identifier.as_ref()) else { continue };
            match self.membership(*index) {
                Membership::Included => return true,
                Membership::Excluded => return false,
                Membership::Unsaid => (),
            }
        }
        false
    }

    fn membership(&mut self, index: usize) -> Membership {
        let Some(target) = self.target else { return Membership::Unsaid };
        if self.segments_on_path.contains(&index) || self.is_exhausted() {
            return Membership::Unsaid;
        }
        let segment = &self.ruleset.segments[index];
        if segment.item.excluded.iter().any(|it| it.identifier == target.identifier) {
            return Membership::Excluded;
        }
        if segment.item.included.iter().any(|it| it.identifier == target.identifier) {
            return Membership::Included;
        }
        self.segments_on_path.push(index);
        let is_member = if segment.group_rules.is_empty() {
            segment.rules.iter().any(|it| self.is_met(it))
        } else {
            segment.group_rules.iter().any(|rule| !rule.is_empty() && rule.iter().all(|it| self.is_met(it)))
        };
        self.segments_on_path.pop();
        if is_member { Membership::Included } else { Membership::Unsaid }
    }

    fn is_exhausted(&mut self) -> bool {
        self.steps += 1;
        self.steps > MAX_STEPS
    }
}

fn find<'a>(flag: &'a CompiledFlag, variation: &str) -> Result<Served<'a>, EvaluationError> {
    let found = flag.item.variations.iter().find(|it| *it.identifier == *variation);
    found
        .map(|it| Served { identifier: &it.identifier, value: &it.value })
        .ok_or_else(|| EvaluationError::UnknownVariation(variation.to_owned()))
}
