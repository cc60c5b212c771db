//! Whether the context is in a segment.

use super::super::bucket::bucket;
use super::super::memberships::BigSegmentsStatus;
use super::super::segment::{Big, CompiledKeys, CompiledSegment, RuleShare};
use super::super::symbols::USER_KIND;
use super::{Halt, Run};

impl Run<'_> {
    /// Decides whether the context is in `segment`, with nothing remembered yet.
    pub(super) fn find_in(&mut self, segment: &CompiledSegment) -> Result<bool, Halt> {
        let listed = match &segment.big {
            Some(big) => self.find_in_store(big),
            None => self.find_in_lists(segment),
        };
        if let Some(inside) = listed {
            return Ok(inside);
        }
        let mut start = 0;
        for rule in &segment.rules {
            let clauses = start..rule.clauses_end;
            start = rule.clauses_end;
            if self.all_match(&segment.clauses, clauses)? && self.is_in_share(segment, rule.rollout.as_ref())? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What the key lists decide, in the order of the vendor's evaluator; `None` leaves it to the rules.
    fn find_in_lists(&self, segment: &CompiledSegment) -> Option<bool> {
        let user = self.subject.part(USER_KIND);
        let has_key_in = |entries: &[CompiledKeys]| {
            // The vendor's evaluator leaves these out for a plain user, even entries of kind `user`.
            !self.subject.context().is_plain_user()
                && entries
                    .iter()
                    .any(|entry| self.subject.part(entry.kind).is_some_and(|part| part.key_is_in(&entry.keys)))
        };
        if user.is_some_and(|user| user.key_is_in(&segment.included)) || has_key_in(&segment.included_contexts) {
            return Some(true);
        }
        if user.is_some_and(|user| user.key_is_in(&segment.excluded)) || has_key_in(&segment.excluded_contexts) {
            return Some(false);
        }
        None
    }

    /// What the store decides; `None` leaves it to the rules.
    fn find_in_store(&mut self, big: &Big) -> Option<bool> {
        let Some(reference) = &big.reference else {
            self.note(Some(BigSegmentsStatus::NotConfigured));
            return Some(false);
        };
        let Some(part) = self.subject.part(big.kind) else {
            return Some(false);
        };
        let Some(memberships) = self.memberships else {
            self.note(Some(BigSegmentsStatus::NotConfigured));
            return None;
        };
        let (inside, status) = memberships.look_up(part.key(), reference);
        self.note(Some(status));
        inside
    }

    fn is_in_share(&self, segment: &CompiledSegment, rollout: Option<&RuleShare>) -> Result<bool, Halt> {
        match rollout {
            None => Ok(true),
            Some(RuleShare::Malformed) => Err(Halt::Malformed),
            Some(RuleShare::Share { limit, attribute }) => {
                let bucket = bucket(&self.subject, *attribute, segment.prefix.as_bytes(), true);
                Ok(bucket.kind_found && bucket.value < *limit)
            }
        }
    }
}
