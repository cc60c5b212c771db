//! Flags as received.

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Malformed;
use super::audience::Audience;
use super::item::{Body, Item};
use super::json::JsonReader;
use super::keys::KeySet;
use super::rule::{Clause, Rollout, keys, list, properties, text};

/// One flag at one version, or the tombstone of a deleted one.
pub type Flag = Item<FlagBody>;

/// The properties of a flag that evaluation needs, with defaults filled in.
#[derive(Debug, Clone, Default)]
pub struct FlagBody {
    pub(crate) on: bool,
    pub(crate) prerequisites: Vec<Prerequisite>,
    pub(crate) targets: Vec<Target>,
    pub(crate) context_targets: Vec<Target>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) fallthrough: Choice,
    pub(crate) off_variation: Option<i64>,
    /// Range of each variation in the flag's JSON.
    pub(crate) variations: Vec<Range<usize>>,
    pub(crate) salt: Box<str>,
    /// One of this many events is sent; `None` sends all.
    pub(crate) sampling_ratio: Option<i64>,
    pub(crate) track_events_fallthrough: bool,
    track_events: bool,
    debug_events_until_date: i64,
    availability: Option<Availability>,
    client_side: bool,
}

/// The properties of a flag that are needed without evaluation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlagFacts {
    track_events: bool,
    debug_events_until_date: i64,
    is_mobile: bool,
    is_browser: bool,
}

/// Another flag that must give a certain variation.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Prerequisite {
    pub(crate) key: Box<str>,
    pub(crate) variation: i64,
}

/// Keys that get a certain variation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Target {
    /// Empty for `user`.
    pub(crate) context_kind: Box<str>,
    /// Shared with compiled targets.
    pub(crate) keys: Arc<KeySet>,
    pub(crate) variation: i64,
}

/// Conditions, and the choice if all are met.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Rule {
    pub(crate) id: Box<str>,
    pub(crate) clauses: Vec<Clause>,
    pub(crate) choice: Choice,
    pub(crate) track_events: bool,
}

/// A variation or a rollout; the variation wins.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Choice {
    pub(crate) variation: Option<i64>,
    pub(crate) rollout: Option<Rollout>,
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Availability {
    mobile: bool,
    browser: bool,
}

impl Flag {
    /// Whether every evaluation must be reported.
    #[must_use]
    pub fn track_events(&self) -> bool {
        self.facts().track_events
    }

    /// Until when evaluations are reported for debugging, in Unix milliseconds.
    #[must_use]
    pub fn debug_events_until_date(&self) -> Option<i64> {
        Some(self.facts().debug_events_until_date).filter(|date| *date != 0)
    }

    /// The JSON of each variation, byte for byte. Parses the flag.
    #[must_use]
    pub fn variations(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.body().variations.into_iter().map(|range| &self.json()[range])
    }

    /// The JSON of one variation. Parses the flag.
    #[must_use]
    pub fn variation(&self, index: usize) -> Option<&[u8]> {
        self.variations().nth(index)
    }

    /// Whether clients of this audience may see the flag.
    #[must_use]
    pub fn visible_to(&self, audience: Audience) -> bool {
        let facts = self.facts();
        !self.is_deleted()
            && match audience {
                Audience::Server => true,
                Audience::Mobile => facts.is_mobile,
                Audience::Browser => facts.is_browser,
            }
    }
}

impl Body for FlagBody {
    const TYPE: &'static str = "Flag";

    type Facts = FlagFacts;

    fn facts(&self) -> FlagFacts {
        FlagFacts {
            track_events: self.track_events,
            debug_events_until_date: self.debug_events_until_date,
            // The schema before `clientSideAvailability` hid flags from browsers only.
            is_mobile: self.availability.is_none_or(|it| it.mobile),
            is_browser: self.availability.map_or(self.client_side, |it| it.browser),
        }
    }

    fn read(&mut self, name: &str, reader: &mut JsonReader<'_>) -> Result<(), Malformed> {
        match name {
            "on" => self.on = reader.boolean()?,
            "prerequisites" => self.prerequisites = list(reader, Prerequisite::read)?,
            "targets" => self.targets = list(reader, Target::read)?,
            "contextTargets" => self.context_targets = list(reader, Target::read)?,
            "rules" => self.rules = list(reader, Rule::read)?,
            "fallthrough" => {
                let mut choice = Choice::default();
                properties(reader, |name, reader| choice.read(name, reader))?;
                self.fallthrough = choice;
            }
            "offVariation" => self.off_variation = Some(reader.integer()?),
            "variations" => {
                self.variations.clear();
                reader.array(|reader| {
                    self.variations.push(reader.skip());
                    Ok::<_, Malformed>(())
                })?;
            }
            "clientSideAvailability" => self.availability = Some(Availability::read(reader)?),
            "clientSide" => self.client_side = reader.boolean()?,
            "salt" => self.salt = text(reader)?,
            "trackEvents" => self.track_events = reader.boolean()?,
            "trackEventsFallthrough" => self.track_events_fallthrough = reader.boolean()?,
            "debugEventsUntilDate" => self.debug_events_until_date = reader.integer()?,
            "samplingRatio" => self.sampling_ratio = Some(reader.integer()?),
            // Not needed here, but SDKs that are served this flag would choke on another type.
            "excludeFromSummaries" => drop(reader.boolean()?),
            "migration" => properties(reader, |name, reader| {
                if name == "checkRatio" {
                    reader.integer()?;
                } else {
                    reader.skip();
                }
                Ok(())
            })?,
            _ => drop(reader.skip()),
        }
        Ok(())
    }
}

impl Prerequisite {
    fn read(reader: &mut JsonReader<'_>) -> Result<Self, Malformed> {
        let mut prerequisite = Self::default();
        properties(reader, |name, reader| {
            match name {
                "key" => prerequisite.key = text(reader)?,
                "variation" => prerequisite.variation = reader.integer()?,
                _ => drop(reader.skip()),
            }
            Ok(())
        })?;
        Ok(prerequisite)
    }
}

impl Target {
    fn read(reader: &mut JsonReader<'_>) -> Result<Self, Malformed> {
        let mut target = Self::default();
        properties(reader, |name, reader| {
            match name {
                "contextKind" => target.context_kind = text(reader)?,
                "values" => target.keys = Arc::new(keys(reader)?),
                "variation" => target.variation = reader.integer()?,
                _ => drop(reader.skip()),
            }
            Ok(())
        })?;
        Ok(target)
    }
}

impl Rule {
    fn read(reader: &mut JsonReader<'_>) -> Result<Self, Malformed> {
        let mut rule = Self::default();
        properties(reader, |name, reader| {
            match name {
                "id" => rule.id = text(reader)?,
                "clauses" => rule.clauses = list(reader, Clause::read)?,
                "trackEvents" => rule.track_events = reader.boolean()?,
                _ => rule.choice.read(name, reader)?,
            }
            Ok(())
        })?;
        Ok(rule)
    }
}

impl Choice {
    /// Reads one property of the object that this choice is part of.
    fn read(&mut self, name: &str, reader: &mut JsonReader<'_>) -> Result<(), Malformed> {
        match name {
            "variation" => self.variation = Some(reader.integer()?),
            "rollout" => self.rollout = Some(Rollout::read(reader)?),
            _ => drop(reader.skip()),
        }
        Ok(())
    }
}

impl Availability {
    fn read(reader: &mut JsonReader<'_>) -> Result<Self, Malformed> {
        let mut availability = Self::default();
        properties(reader, |name, reader| {
            match name {
                "usingMobileKey" => availability.mobile = reader.boolean()?,
                "usingEnvironmentId" => availability.browser = reader.boolean()?,
                _ => drop(reader.skip()),
            }
            Ok(())
        })?;
        Ok(availability)
    }
}

#[cfg(test)]
mod tests;
