//! From flags and a context to values: pure computation, with no I/O, no clock, no randomness and no logging.
//!
//! A [`Ruleset`] is compiled when data changes. For each request, [`evaluate_all`] and its siblings walk it once and
//! write what SDKs call *evalx*: for each flag its value, the variation's index, and what is needed to report events.
//! The rules are those of the evaluator in the vendor's relay (`launchdarkly/go-server-sdk-evaluation`).

mod bucket;
mod clause;
mod date;
mod dependants;
mod estimate;
mod flag;
mod memberships;
mod memory;
mod operator;
mod outcome;
mod prepared;
mod read_ahead;
mod render;
mod ruleset;
mod run;
mod segment;
mod semver;
mod steps;
mod subject;
mod symbols;
mod visible;

#[cfg(test)]
mod vectors;

pub use self::estimate::estimate_hashes;
pub use self::memberships::{BigSegmentsStatus, HashedKey, Memberships};
pub use self::render::Replaced;
pub use self::ruleset::Ruleset;
pub use crate::model::Audience;

use std::sync::Arc;

use self::flag::CompiledFlag;
use self::outcome::{Outcome, Reason};
use self::run::Run;
use self::subject::Subject;
use crate::model::Context;

/// The input of an evaluation besides the ruleset.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The context that flags are evaluated for.
    pub context: &'a Context,
    /// The kind of SDK that the result is for.
    pub audience: Audience,
    /// Whether every entry has its reason; entries of experiments always have it.
    pub with_reasons: bool,
    /// Memberships of the context in Big Segments; `None` without a store.
    pub memberships: Option<&'a Memberships>,
}

/// One flag's result.
#[derive(Debug, Clone, Copy)]
pub struct Evaluated<'a> {
    flag: &'a CompiledFlag,
    outcome: Outcome,
}

/// Evaluates all flags that the audience may see and appends the evalx body, an object sorted by key.
pub fn evaluate_all(ruleset: &Ruleset, request: &Request<'_>, out: &mut Vec<u8>) {
    let mut body = Body::open(out);
    evaluate_flags(ruleset, request, ruleset.visible_to(request.audience).iter().map(|it| &**it), |evaluated| {
        evaluated.write_entry(Replaced::default(), request.with_reasons, body.entry());
    });
    body.close();
}

/// Evaluates the flags with these keys, in their order, and appends an evalx body with them.
///
/// Flags that do not exist or that the audience may not see are left out.
pub fn evaluate_some<K: AsRef<str>>(ruleset: &Ruleset, request: &Request<'_>, keys: &[K], out: &mut Vec<u8>) {
    let flags = keys.iter().filter_map(|key| ruleset.visible_flag(key.as_ref(), request.audience));
    let mut body = Body::open(out);
    evaluate_flags(ruleset, request, flags, |evaluated| {
        evaluated.write_entry(Replaced::default(), request.with_reasons, body.entry());
    });
    body.close();
}

/// Evaluates all flags that the audience may see and calls `visit` with each result, sorted by key.
pub fn evaluate_each(ruleset: &Ruleset, request: &Request<'_>, visit: &mut dyn FnMut(Evaluated<'_>)) {
    evaluate_flags(ruleset, request, ruleset.visible_to(request.audience).iter().map(|it| &**it), visit);
}

/// Evaluates the flags with these keys and calls `visit` with each result and the index of its key.
///
/// Flags that do not exist or that the audience may not see are left out.
pub fn evaluate_these(
    ruleset: &Ruleset,
    request: &Request<'_>,
    keys: &[Arc<str>],
    visit: &mut dyn FnMut(usize, Evaluated<'_>),
) {
    let subject = Subject::new(request.context, ruleset.symbols());
    let mut run = Run::new(ruleset, subject, request.memberships);
    for (index, key) in keys.iter().enumerate() {
        if let Some(flag) = ruleset.visible_flag(key, request.audience) {
            visit(index, Evaluated { flag, outcome: run.evaluate(flag) });
        }
    }
}

impl<'a> Evaluated<'a> {
    /// The flag's key, as it is written.
    #[must_use]
    pub fn key(&self) -> &'a str {
        self.flag.source().name()
    }

    /// The key the flag was sent under; the same as [`Evaluated::key`] in well-formed data.
    #[must_use]
    pub fn item_key(&self) -> &'a Arc<str> {
        self.flag.source().key()
    }

    /// The flag's version.
    #[must_use]
    pub fn version(&self) -> i64 {
        self.flag.source().version()
    }

    /// The JSON of the value, `null` if there is none.
    #[must_use]
    pub fn value(&self) -> &'a [u8] {
        self.flag.prepared.value(self.outcome.variation)
    }

    /// The index of the variation, if there is one.
    #[must_use]
    pub fn variation(&self) -> Option<usize> {
        self.outcome.variation.map(|index| index as usize)
    }

    /// The `kind` of the reason: `OFF`, `TARGET_MATCH`, `RULE_MATCH`, `FALLTHROUGH`, `PREREQUISITE_FAILED` or `ERROR`.
    #[must_use]
    pub fn reason_kind(&self) -> &'static str {
        self.outcome.reason.kind()
    }

    /// Whether the result is reported with its reason, because it belongs to an experiment.
    #[must_use]
    pub fn is_experiment(&self) -> bool {
        self.outcome.is_experiment()
    }

    /// The worst status of the Big Segments that were looked up, if there were any.
    #[must_use]
    pub fn big_segments_status(&self) -> Option<BigSegmentsStatus> {
        self.outcome.status
    }

    /// The keys of the direct prerequisites that were evaluated, in order.
    #[must_use]
    pub fn prerequisites(&self) -> impl ExactSizeIterator<Item = &'a str> {
        let all = &self.flag.prerequisites;
        all.iter().take(self.outcome.prerequisites as usize).map(|prerequisite| &*prerequisite.key)
    }

    fn is_in_experiment(&self) -> bool {
        matches!(
            self.outcome.reason,
            Reason::Rule { in_experiment: true, .. } | Reason::Fallthrough { in_experiment: true, .. }
        )
    }
}

fn evaluate_flags<'a>(
    ruleset: &'a Ruleset,
    request: &Request<'a>,
    flags: impl Iterator<Item = &'a CompiledFlag>,
    mut visit: impl FnMut(Evaluated<'_>),
) {
    let subject = Subject::new(request.context, ruleset.symbols());
    let mut run = Run::new(ruleset, subject, request.memberships);
    read_ahead::for_each(flags, |flag| visit(Evaluated { flag, outcome: run.evaluate(flag) }));
}

/// An evalx body while it is written.
struct Body<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> Body<'a> {
    fn open(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    /// Returns the buffer for the next entry, after the separating comma.
    fn entry(&mut self) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        self.out
    }

    fn close(self) {
        self.out.push(b'}');
    }
}

#[cfg(test)]
mod tests;
