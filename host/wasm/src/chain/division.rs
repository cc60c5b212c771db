//! Divides callers between two versions of a plugin.

use sha2::{Digest, Sha256};
use yardarm_core::EnvironmentLabel;
use yardarm_core::hooks::RequestFacts;

/// Callers are divided in this many parts.
const PARTS: u64 = 10_000;

/// Which callers get the new version of a plugin: the same credential of the same environment always gets the same version,
/// in all gateways and also after a restart.
#[derive(Debug)]
pub(crate) struct Division {
    plugin: String,
    percent: u8,
    /// Whether whole environments get the same version, because replies are shared between their clients.
    is_by_environment: bool,
}

/// A side of a division.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The version that ran before.
    Running,
    /// The version that is being rolled out.
    New,
}

impl Division {
    pub(crate) fn new(plugin: &str, percent: u8, is_by_environment: bool) -> Self {
        Self { plugin: plugin.to_owned(), percent, is_by_environment }
    }

    pub(crate) fn percent(&self, side: Side) -> u8 {
        match side {
            Side::Running => 100 - self.percent,
            Side::New => self.percent,
        }
    }

    /// Returns the side of a whole environment; `None` if its callers are on both.
    pub(super) fn side_of_environment(&self, environment: &EnvironmentLabel) -> Option<Side> {
        self.is_by_environment.then(|| self.side(environment, ""))
    }

    /// Returns the side of a request.
    pub(super) fn side_of_request(&self, facts: &RequestFacts) -> Side {
        let credential = facts.credential.as_ref().filter(|_| !self.is_by_environment);
        self.side(&facts.environment, credential.map_or("", |credential| credential.expose()))
    }

    fn side(&self, environment: &EnvironmentLabel, credential: &str) -> Side {
        let mut digest = Sha256::new();
        for text in [&*self.plugin, environment.vendor(), environment.name(), credential] {
            digest.update((text.len() as u64).to_le_bytes());
            digest.update(text);
        }
        let digest: [u8; 32] = digest.finalize().into();
        let (first, _) = digest.split_first_chunk::<8>().expect("a digest has 32 bytes");
        let part = u64::from_le_bytes(*first) % PARTS;
        if part < u64::from(self.percent) * PARTS / 100 { Side::New } else { Side::Running }
    }
}

#[cfg(test)]
mod tests {
    use yardarm_core::Secret;

    use super::*;

    fn facts(environment: &str, credential: usize) -> RequestFacts {
        let mut facts = RequestFacts::new(EnvironmentLabel::new("none", environment), "client.evaluate", "client");
        facts.credential = Some(Secret::new(format!("key-{credential}")));
        facts
    }

    #[test]
    fn the_share_is_as_configured_and_a_caller_stays_where_it_is() {
        for percent in [1, 5, 50, 99] {
            let division = Division::new("gate", percent, false);
            let count = (0..20_000).filter(|it| division.side_of_request(&facts("a", *it)) == Side::New).count();
            let share = count as f64 / 200.0;
            assert!((share - f64::from(percent)).abs() < 1.5, "{percent} %: {share}");
            let wider = Division::new("gate", percent + 1, false);
            let is_new = |division: &Division, it| division.side_of_request(&facts("a", it)) == Side::New;
            assert!(
                (0..1_000).all(|it| !is_new(&division, it) || is_new(&wider, it)),
                "a larger share has the smaller"
            );
        }
        let (one, other) = (Division::new("gate", 50, false), Division::new("fence", 50, false));
        let differ = |it: &usize| one.side_of_request(&facts("a", *it)) != other.side_of_request(&facts("a", *it));
        assert!((0..100).any(|it| differ(&it)), "plugins are divided independently");
    }

    #[test]
    fn whole_environments_are_on_one_side_where_replies_are_shared() {
        let division = Division::new("gate", 50, true);
        let mut sides = Vec::new();
        for environment in ["a", "b", "c", "d", "e", "f", "g", "h"] {
            let side = division.side_of_environment(&EnvironmentLabel::new("none", environment));
            assert!((0..50).all(|it| Some(division.side_of_request(&facts(environment, it))) == side));
            sides.push(side);
        }
        assert!(sides.contains(&Some(Side::New)) && sides.contains(&Some(Side::Running)), "{sides:?}");
        let by_credential = Division::new("gate", 50, false);
        assert_eq!(by_credential.side_of_environment(&EnvironmentLabel::new("none", "a")), None);
    }
}
