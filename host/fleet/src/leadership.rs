//! Which role a gateway has for a source, decided from the lease and the state of its upstream connection. No I/O.

use std::time::Duration;

use tokio::time::Instant;
use yardarm_store::LeaseAction;

/// How long a leader without a valid upstream connection keeps the lease, if another gateway could take it.
const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a gateway that gave up a lease leaves it to others, at first and at most.
const BACK_OFF: Duration = Duration::from_secs(10);
const MAX_BACK_OFF: Duration = Duration::from_secs(120);
/// How long a lease may be free until a gateway that backs off claims it all the same.
const FREE_TIMEOUT: Duration = Duration::from_millis(1500);

/// The role of a gateway for one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Not known yet; it will be within about a second.
    Undecided,
    /// It is connected to upstream and publishes what it receives.
    Leader,
    /// It follows what the leader publishes.
    Follower,
    /// It is connected to upstream, because the database cannot be reached.
    Alone,
}

/// The leadership of one source, as one gateway sees it.
#[derive(Debug)]
pub(crate) struct Leadership {
    role: Role,
    /// How long a lease lasts.
    lifetime: Duration,
    /// When the database last answered.
    answered_at: Option<Instant>,
    /// Since when the upstream connection of this gateway, being the leader, is not valid.
    invalid_since: Option<Instant>,
    /// Until when the lease is left to others, and how long the next time.
    backs_off_until: Option<Instant>,
    back_off: Duration,
    /// Since when the lease is known to be free.
    free_since: Option<Instant>,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 4] = [Self::Undecided, Self::Leader, Self::Follower, Self::Alone];

    /// Returns the name in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Undecided => "undecided",
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Alone => "alone",
        }
    }

    /// Returns whether a gateway in this role is connected to upstream.
    #[must_use]
    pub fn is_connected(self) -> bool {
        matches!(self, Self::Leader | Self::Alone)
    }
}

impl Leadership {
    pub(crate) fn new(lifetime: Duration) -> Self {
        Self {
            role: Role::Undecided,
            lifetime,
            answered_at: None,
            invalid_since: None,
            backs_off_until: None,
            back_off: BACK_OFF,
            free_since: None,
        }
    }

    /// Returns what to do with the lease. `is_valid`: whether the upstream connection is; `has_others`: whether the fleet
    /// has other gateways.
    pub(crate) fn next_action(&mut self, now: Instant, is_valid: bool, has_others: bool) -> LeaseAction {
        if self.role != Role::Leader {
            self.invalid_since = None;
            let is_abandoned = self.free_since.is_some_and(|it| now.duration_since(it) >= FREE_TIMEOUT);
            let backs_off = has_others && self.backs_off_until.is_some_and(|it| now < it) && !is_abandoned;
            return if backs_off { LeaseAction::Wait } else { LeaseAction::Claim };
        }
        if is_valid {
            self.invalid_since = None;
            self.back_off = BACK_OFF;
            return LeaseAction::Claim;
        }
        let since = *self.invalid_since.get_or_insert(now);
        let may_give_up = has_others && self.backs_off_until.is_none_or(|it| now >= it);
        if may_give_up && now.duration_since(since) >= UPSTREAM_TIMEOUT {
            self.backs_off_until = Some(now + self.back_off);
            self.back_off = (self.back_off * 2).min(MAX_BACK_OFF);
            return LeaseAction::Release;
        }
        LeaseAction::Claim
    }

    /// Takes the holder of the lease from the database. `sent_at` is when the request was sent.
    pub(crate) fn set_holder(&mut self, sent_at: Instant, instance: &str, holder: Option<&str>) -> Role {
        self.answered_at = Some(sent_at);
        self.free_since = match holder {
            None => self.free_since.or(Some(sent_at)),
            Some(_) => None,
        };
        self.role = if holder == Some(instance) { Role::Leader } else { Role::Follower };
        self.role
    }

    /// Notes that the database did not answer. Once the lease may have ended, the gateway depends on itself.
    pub(crate) fn set_unreachable(&mut self, now: Instant) -> Role {
        if self.answered_at.is_none_or(|it| now.duration_since(it) >= self.lifetime) {
            self.free_since = None;
            self.role = Role::Alone;
        }
        self.role
    }
}

#[cfg(test)]
mod tests;
