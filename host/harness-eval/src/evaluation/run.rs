//! The evaluation of flags for one target.

use std::collections::{HashMap, HashSet, VecDeque};

use super::attribute;
use super::bucket::bucket;
use super::clause::Condition;
use super::compiled::{Compiled, CompiledFlag, CompiledSegment, Serves};
use super::outcome::EvaluationError;
use super::walk::{Graph, decide_in_order};
use crate::model::{Distribution, Target};

/// An evaluation in progress. Every decision is memoized, so that evaluating everything takes time in proportion to the data.
/// Nothing recurses, so the depth of data does not matter.
pub(super) struct Run<'a, 't> {
    ruleset: &'a Compiled,
    target: Option<&'t Target>,
    /// What each flag serves by itself, without its prerequisites.
    served: Vec<Option<Decision<'a>>>,
    /// Whether the prerequisites of each flag are met.
    met: Vec<Option<bool>>,
    memberships: Vec<Option<Membership>>,
    /// Whether segments are being decided; undecided segments count as not containing the target meanwhile.
    is_deciding_segments: bool,
}

/// What a flag serves by itself, without its prerequisites.
#[derive(Clone, Copy)]
enum Decision<'a> {
    /// The position of a variation.
    Variation(usize),
    /// The variation of this name does not exist.
    Missing(&'a str),
    Nothing,
}

/// Whether one segment contains the target.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Membership {
    Included,
    /// Explicitly not; later segments are not looked at.
    Excluded,
    Undecided,
}

impl<'a, 't> Run<'a, 't> {
    pub(super) fn new(ruleset: &'a Compiled, target: Option<&'t Target>) -> Self {
        Self {
            ruleset,
            target,
            served: vec![None; ruleset.flags.len()],
            met: vec![None; ruleset.flags.len()],
            memberships: vec![None; ruleset.segments.len()],
            is_deciding_segments: false,
        }
    }

    /// Returns the position of the variation that a flag serves.
    pub(super) fn evaluate(&mut self, index: usize) -> Result<usize, EvaluationError> {
        let flag = self.ruleset.flags.get(index).ok_or(EvaluationError::UnknownFlag)?;
        let is_served = flag.item.prerequisites.is_empty() || self.has_prerequisites_met(index);
        let decision = if is_served { self.serve(index, flag) } else { find(flag, &flag.item.off_variation) };
        match decision {
            Decision::Variation(position) => Ok(position),
            Decision::Missing(name) => Err(EvaluationError::UnknownVariation(name.to_owned())),
            Decision::Nothing => Err(EvaluationError::NothingServed(flag.item.feature.to_string())),
        }
    }

    /// Returns what the flag serves by itself, without its prerequisites.
    fn serve(&mut self, index: usize, flag: &'a CompiledFlag) -> Decision<'a> {
        if let Some(known) = self.served[index] {
            return known;
        }
        let decision = self.decide(flag);
        self.served[index] = Some(decision);
        decision
    }

    fn decide(&mut self, flag: &'a CompiledFlag) -> Decision<'a> {
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
        if variation.is_empty() { Decision::Nothing } else { find(flag, variation) }
    }

    /// Returns what the variation map serves; empty if it contains the target nowhere.
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

    /// Returns what the rules serve (F102); empty if the default decides.
    fn ruled(&mut self, flag: &'a CompiledFlag) -> &'a str {
        for rule in &flag.rules {
            if !rule.conditions.iter().all(|it| self.is_met(it)) {
                continue;
            }
            match &rule.serves {
                // No later rule is evaluated even if this serves nothing: then the default decides.
                Serves::Distribution(distribution) => return self.distributed(distribution),
                Serves::Variation(variation) => return variation,
                Serves::Nothing => (),
            }
        }
        ""
    }

    /// Returns what a percentage rollout serves (F107).
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

    /// Returns the target's bucket by an attribute, or by its identifier if it lacks the attribute.
    fn bucket(&self, attribute: &str) -> Option<u32> {
        let target = self.target?;
        let value = attribute::text(target, attribute);
        if !value.is_empty() {
            return Some(bucket(attribute, &value));
        }
        (!target.identifier.is_empty()).then(|| bucket("identifier", &target.identifier))
    }

    /// Returns whether all direct and indirect prerequisites of a flag are met (F105, F106). Prerequisites that cannot be
    /// evaluated count as met, and so do cycles.
    fn has_prerequisites_met(&mut self, index: usize) -> bool {
        if self.met[index].is_none() {
            decide_in_order(&mut Prerequisites(self), index);
        }
        self.met[index].unwrap_or(true)
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

    /// Returns whether the target is a member of any of these segments. They are looked at in order, and an exclusion ends the
    /// search (F103).
    fn is_in_any<S: AsRef<str>>(&mut self, segments: &[S]) -> bool {
        for identifier in segments {
            let Some(index) = self.ruleset.segments.number(identifier.as_ref()) else { continue };
            match self.membership(index) {
                Membership::Included => return true,
                Membership::Excluded => return false,
                Membership::Undecided => (),
            }
        }
        false
    }

    fn membership(&mut self, index: usize) -> Membership {
        if self.memberships[index].is_none() && !self.is_deciding_segments {
            self.is_deciding_segments = true;
            decide_in_order(&mut Segments(self), index);
            self.is_deciding_segments = false;
        }
        self.memberships[index].unwrap_or(Membership::Undecided)
    }

    /// Returns the membership by the lists of a segment; `None` if its rules decide.
    fn listed(&self, segment: &CompiledSegment) -> Option<Membership> {
        let Some(target) = self.target else { return Some(Membership::Undecided) };
        if segment.item.excluded.iter().any(|it| it.identifier == target.identifier) {
            return Some(Membership::Excluded);
        }
        let is_included = segment.item.included.iter().any(|it| it.identifier == target.identifier);
        is_included.then_some(Membership::Included)
    }

    fn is_member_by_rules(&mut self, segment: &CompiledSegment) -> bool {
        if segment.group_rules.is_empty() {
            segment.rules.iter().any(|it| self.is_met(it))
        } else {
            segment.group_rules.iter().any(|rule| !rule.is_empty() && rule.iter().all(|it| self.is_met(it)))
        }
    }
}

/// Flags and their prerequisites.
struct Prerequisites<'r, 'a, 't>(&'r mut Run<'a, 't>);

impl Graph for Prerequisites<'_, '_, '_> {
    fn needs(&mut self, node: usize) -> Option<Vec<usize>> {
        if self.0.met[node].is_some() {
            return None;
        }
        let ruleset = self.0.ruleset;
        let flag = ruleset.flags.get(node)?;
        let mut needs = Vec::new();
        for prerequisite in &flag.item.prerequisites {
            // The first that cannot be evaluated ends the search.
            let Some(other) = ruleset.flags.number(&prerequisite.feature) else { break };
            let Some(required) = ruleset.flags.get(other) else { break };
            let Decision::Variation(position) = self.0.serve(other, required) else { break };
            let served = &required.item.variations[position].identifier;
            if !prerequisite.variations.iter().any(|it| **it == **served) {
                self.0.met[node] = Some(false);
                return None;
            }
            needs.push(other);
        }
        Some(needs)
    }

    fn decide(&mut self, nodes: &[(usize, Vec<usize>)]) {
        // Flags that need each other have the same indirect prerequisites.
        let is_met = nodes.iter().flat_map(|it| &it.1).all(|need| self.0.met[*need] != Some(false));
        for (node, _) in nodes {
            self.0.met[*node] = Some(is_met);
        }
    }
}

/// Segments, and those that their rules name.
struct Segments<'r, 'a, 't>(&'r mut Run<'a, 't>);

impl Graph for Segments<'_, '_, '_> {
    fn needs(&mut self, node: usize) -> Option<Vec<usize>> {
        if self.0.memberships[node].is_some() {
            return None;
        }
        let ruleset = self.0.ruleset;
        let segment = ruleset.segments.get(node)?;
        if let Some(membership) = self.0.listed(segment) {
            self.0.memberships[node] = Some(membership);
            return None;
        }
        let named = segment.named_segments();
        Some(named.filter_map(|it| ruleset.segments.number(it)).collect())
    }

    /// Decides segments that contain each other. A segment contains the target only if a rule of the cycle matches that does
    /// not depend on the cycle itself.
    fn decide(&mut self, nodes: &[(usize, Vec<usize>)]) {
        let ruleset = self.0.ruleset;
        let mut dependants: HashMap<usize, Vec<usize>> = HashMap::new();
        if nodes.len() > 1 {
            for (node, needs) in nodes {
                needs.iter().for_each(|need| dependants.entry(*need).or_default().push(*node));
            }
        }
        let mut pending: VecDeque<usize> = nodes.iter().map(|it| it.0).collect();
        let mut is_pending: HashSet<usize> = pending.iter().copied().collect();
        while let Some(node) = pending.pop_front() {
            is_pending.remove(&node);
            let Some(segment) = ruleset.segments.get(node) else { continue };
            if self.0.memberships[node].is_none() && self.0.is_member_by_rules(segment) {
                self.0.memberships[node] = Some(Membership::Included);
                let waiting = dependants.get(&node).into_iter().flatten();
                let undecided = waiting.filter(|it| self.0.memberships[**it].is_none());
                pending.extend(undecided.filter(|it| is_pending.insert(**it)));
            }
        }
        for (node, _) in nodes {
            self.0.memberships[*node].get_or_insert(Membership::Undecided);
        }
    }
}

fn find<'a>(flag: &'a CompiledFlag, variation: &'a str) -> Decision<'a> {
    let found = flag.item.variations.iter().position(|it| *it.identifier == *variation);
    found.map_or(Decision::Missing(variation), Decision::Variation)
}
