//! Shares of something bounded, such as memory: a caller that takes much leaves something for the others.
//!
//! A [`Budget`] is divided by dynamic thresholds: each [`Account`] may hold at most `GREED` times what is free. One
//! account alone gets most of the budget; the more accounts are full, the less each of them holds, and a new one always
//! finds room. Nothing is ever taken back from an account that holds it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// How many times the free part an account may hold.
const GREED: usize = 8;

/// How well the credential of a caller is guarded. Callers of one kind never take what is meant for another kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Trust {
    /// A secret that stays on servers.
    Secret,
    /// A key that is shipped within apps, where it can be extracted.
    Embedded,
    /// An identifier that anybody can read.
    Public,
}

/// One value for each [`Trust`].
#[derive(Debug, Clone, Default)]
pub struct ByTrust<T> {
    /// For [`Trust::Secret`].
    pub secret: T,
    /// For [`Trust::Embedded`].
    pub embedded: T,
    /// For [`Trust::Public`].
    pub public: T,
}

/// Something that there is only so much of. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    limit: usize,
    used: Mutex<usize>,
}

/// What one caller holds of a budget.
#[derive(Debug)]
pub struct Account {
    pool: Arc<Pool>,
    /// Changes only while the pool is locked.
    used: AtomicUsize,
}

/// A part of a budget, given back when it is dropped.
#[derive(Debug)]
pub struct Charge {
    account: Arc<Account>,
    amount: usize,
}

impl Trust {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Secret, Self::Embedded, Self::Public];
}

impl<T> ByTrust<T> {
    /// Makes a value for each.
    pub fn from_fn(mut value: impl FnMut(Trust) -> T) -> Self {
        Self { secret: value(Trust::Secret), embedded: value(Trust::Embedded), public: value(Trust::Public) }
    }

    /// Returns the value for `trust`.
    pub fn get(&self, trust: Trust) -> &T {
        match trust {
            Trust::Secret => &self.secret,
            Trust::Embedded => &self.embedded,
            Trust::Public => &self.public,
        }
    }
}

impl Budget {
    /// Creates a budget of `limit` units.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Pool { limit, used: Mutex::new(0) }))
    }

    /// Divides `limit` units: half for [`Trust::Secret`], a quarter each for the others.
    #[must_use]
    pub fn by_trust(limit: usize) -> ByTrust<Self> {
        ByTrust::from_fn(|trust| match trust {
            Trust::Secret => Self::new(limit - limit / 4 * 2),
            Trust::Embedded | Trust::Public => Self::new(limit / 4),
        })
    }

    /// Opens an account that holds nothing yet.
    #[must_use]
    pub fn account(&self) -> Arc<Account> {
        Arc::new(Account { pool: Arc::clone(&self.0), used: AtomicUsize::new(0) })
    }
}

impl Account {
    /// Takes `amount` units; `None` if that is more than this account may hold.
    #[must_use]
    pub fn charge(self: &Arc<Self>, amount: usize) -> Option<Charge> {
        let mut charge = Charge { account: Arc::clone(self), amount: 0 };
        charge.grow(amount).then_some(charge)
    }

    /// Units that this account holds.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether the account holds more than half of what it may hold.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        let free = self.pool.limit - *self.pool.lock();
        self.used() > free.saturating_mul(GREED) / 2
    }

    fn take(&self, amount: usize) -> bool {
        let mut all = self.pool.lock();
        let own = self.used() + amount;
        let Some(free) = self.pool.limit.checked_sub(*all + amount) else { return false };
        if own > free.saturating_mul(GREED) {
            return false;
        }
        *all += amount;
        self.used.store(own, Ordering::Relaxed);
        true
    }

    fn give_back(&self, amount: usize) {
        let mut all = self.pool.lock();
        *all -= amount;
        self.used.store(self.used() - amount, Ordering::Relaxed);
    }
}

impl Charge {
    /// Takes `amount` units more; `false` and no change if that is more than the account may hold.
    pub fn grow(&mut self, amount: usize) -> bool {
        let is_granted = self.account.take(amount);
        if is_granted {
            self.amount += amount;
        }
        is_granted
    }

    /// Gives `amount` units back, or all if there are fewer.
    pub fn shrink(&mut self, amount: usize) {
        let amount = amount.min(self.amount);
        self.account.give_back(amount);
        self.amount -= amount;
    }

    /// Takes `amount` units off into a charge of their own, or all if there are fewer.
    #[must_use]
    pub fn split(&mut self, amount: usize) -> Self {
        let amount = amount.min(self.amount);
        self.amount -= amount;
        Self { account: Arc::clone(&self.account), amount }
    }

    /// Units that are held.
    #[must_use]
    pub fn amount(&self) -> usize {
        self.amount
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.give_back(self.amount);
    }
}

impl Pool {
    fn lock(&self) -> std::sync::MutexGuard<'_, usize> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_account_gets_most_of_a_budget_and_a_new_one_always_finds_room() {
        let budget = Budget::new(900);
        let (greedy, modest) = (budget.account(), budget.account());
        let mut charge = greedy.charge(0).unwrap();
        while charge.grow(1) {}
        assert_eq!((charge.amount(), greedy.used()), (800, 800), "eight times the 100 that are free");
        let small = modest.charge(50).unwrap();
        assert!(!charge.grow(1), "more than eight times the 50 that are free");
        drop(small);
        assert!(modest.charge(89).is_none() && modest.charge(88).is_some());
        assert!(greedy.charge(1000).is_none() && Budget::new(10).account().charge(9).is_none());
        assert!(Budget::new(9).account().charge(8).is_some());
    }

    #[test]
    fn charges_are_given_back_to_the_last_unit() {
        let budget = Budget::new(1000);
        let account = budget.account();
        let mut charge = account.charge(100).unwrap();
        let part = charge.split(30);
        assert_eq!((charge.amount(), part.amount(), account.used()), (70, 30, 100));
        drop(part);
        assert_eq!(account.used(), 70);
        charge.shrink(20);
        assert_eq!((charge.amount(), account.used()), (50, 50));
        assert_eq!(charge.split(80).amount(), 50, "no more than there is");
        charge.shrink(10);
        assert_eq!((charge.amount(), account.used(), *budget.0.lock()), (0, 0, 0));
    }

    #[test]
    fn an_account_is_crowded_from_half_of_what_it_may_hold() {
        let account = Budget::new(1000).account();
        let mut charge = account.charge(800).unwrap();
        assert!(!account.is_crowded(), "800 of 8 * 200");
        assert!(charge.grow(1) && account.is_crowded());
    }

    #[test]
    fn kinds_of_callers_have_parts_that_add_up() {
        let parts = Budget::by_trust(103);
        let limits = Trust::ALL.map(|trust| parts.get(trust).0.limit);
        assert_eq!(limits, [53, 25, 25]);
        let names = ByTrust::from_fn(|trust| trust);
        assert_eq!(Trust::ALL.map(|trust| *names.get(trust)), Trust::ALL);
    }
}
