//! Segments: named groups of contexts.

use std::sync::Arc;

use super::bucket::{Bucketing, fraction};
use super::clause::Clause;
use super::memberships::BigSegmentsStatus;
use super::run::{Halt, Run};
use super::symbols::{Interner, USER_KIND};
use crate::model::{self, KindKeys};

/// A segment, compiled.
#[derive(Debug)]
pub(super) struct Segment {
    source: Arc<model::Segment>,
    /// The kinds of the entries of `includedContexts` and `excludedContexts`.
    included_kinds: Box<[u32]>,
    excluded_kinds: Box<[u32]>,
    rules: Box<[Rule]>,
    big: Option<Big>,
}

#[derive(Debug)]
struct Rule {
    clauses: Box<[Clause]>,
    rollout: Option<Rollout>,
}

#[derive(Debug)]
enum Rollout {
    Share { limit: f32, bucketing: Bucketing },
    Malformed,
}

/// What a Big Segment has instead of key lists.
#[derive(Debug)]
struct Big {
    kind: u32,
    /// How stores call the segment; nothing if it cannot be looked up.
    reference: Option<Box<str>>,
}

impl Segment {
    /// Compiles `source`.
    pub(super) fn compile(source: &Arc<model::Segment>, interner: &mut Interner) -> Self {
        let body = source.body();
        let mut kinds = |entries: &[KindKeys]| entries.iter().map(|entry| interner.kind(&entry.context_kind)).collect();
        let (included_kinds, excluded_kinds) = (kinds(&body.included_contexts), kinds(&body.excluded_contexts));
        let prefix = format!("{}.{}.", body.name, body.salt);
        let rules = body.rules.iter().map(|rule| Rule {
            clauses: rule.clauses.iter().map(|clause| Clause::compile(clause, interner)).collect(),
            rollout: rule.weight.map(|weight| {
                Bucketing::compile(&prefix, &rule.rollout_context_kind, &rule.bucket_by, true, interner)
                    .map_or(Rollout::Malformed, |bucketing| Rollout::Share { limit: fraction(weight), bucketing })
            }),
        });
        Self {
            included_kinds,
            excluded_kinds,
            rules: rules.collect(),
            big: body.unbounded.then(|| Big {
                kind: interner.kind(&body.unbounded_context_kind),
                reference: body.generation.map(|generation| format!("{}.g{generation}", body.name).into()),
            }),
            source: Arc::clone(source),
        }
    }

    /// What it was compiled from.
    pub(super) fn source(&self) -> &Arc<model::Segment> {
        &self.source
    }

    /// The number of the kind whose keys a store is asked for, if this is a Big Segment that can be looked up.
    pub(super) fn looked_up_kind(&self) -> Option<u32> {
        self.big.as_ref().filter(|big| big.reference.is_some()).map(|big| big.kind)
    }

    /// The numbers of the segments that its rules ask for.
    pub(super) fn segments(&self) -> impl Iterator<Item = u32> {
        self.rules.iter().flat_map(|rule| &rule.clauses).flat_map(Clause::segments).copied()
    }
}

impl<'a> Run<'a> {
    /// Decides whether the context is in `segment`, with nothing remembered yet.
    pub(super) fn find_in(&mut self, segment: &'a Segment) -> Result<bool, Halt> {
        let listed = match &segment.big {
            Some(big) => self.find_in_store(big),
            None => self.find_in_lists(segment),
        };
        if let Some(inside) = listed {
            return Ok(inside);
        }
        for rule in &segment.rules {
            if self.all_match(&rule.clauses)? && self.is_in_share(rule.rollout.as_ref())? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What the key lists say, in the order of the vendor's evaluator; `None` leaves it to the rules.
    fn find_in_lists(&self, segment: &Segment) -> Option<bool> {
        let body = segment.source.body();
        let user = self.subject.part(USER_KIND);
        let has_key_in = |entries: &[KindKeys], kinds: &[u32]| {
            // The vendor's evaluator leaves these out for a plain user, even entries of kind `user`.
            !self.subject.context().is_plain_user()
                && entries
                    .iter()
                    .zip(kinds)
                    .any(|(entry, kind)| self.subject.part(*kind).is_some_and(|part| part.key_is_in(&entry.keys)))
        };
        if user.is_some_and(|user| user.key_is_in(&body.included))
            || has_key_in(&body.included_contexts, &segment.included_kinds)
        {
            return Some(true);
        }
        if user.is_some_and(|user| user.key_is_in(&body.excluded))
            || has_key_in(&body.excluded_contexts, &segment.excluded_kinds)
        {
            return Some(false);
        }
        None
    }

    /// What the store says; `None` leaves it to the rules.
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

    fn is_in_share(&self, rollout: Option<&Rollout>) -> Result<bool, Halt> {
        match rollout {
            None => Ok(true),
            Some(Rollout::Malformed) => Err(Halt::Malformed),
            Some(Rollout::Share { limit, bucketing }) => {
                let bucket = bucketing.bucket(&self.subject);
                Ok(bucket.kind_found && bucket.value < *limit)
            }
        }
    }
}
