//! Shares of a bounded resource, such as memory, that leave room for other callers.
//!
//! A [`Budget`] is divided by dynamic thresholds: each [`Account`] may hold at most `GREED` times what is free. A
//! single account gets most of the budget; the more accounts are full, the less each of them holds, and a new account
//! always finds room. What an account holds is never revoked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};

/// How many times the free part an account may hold.
const GREED: usize = 8;

/// Units that a [`SteppedCharge`] takes at a time.
const STEP: usize = 16 << 10;

/// How well the credential of a caller is guarded. Callers of one kind never use the share of another kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Trust {
    /// A secret that stays on servers.
    Secret,
    /// A key that is shipped within apps, where it can be extracted.
    Embedded,
    /// An identifier that is publicly readable.
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

/// A bounded number of units. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    limit: usize,
    used: Mutex<usize>,
}

/// The part of a budget that one caller holds.
#[derive(Debug)]
pub struct Account {
    pool: Arc<Pool>,
    /// Changes only while the pool is locked.
    used: AtomicUsize,
}

/// A part of a budget, returned when it is dropped.
#[derive(Debug)]
pub struct Charge {
    account: Arc<Account>,
    amount: usize,
}

/// A charge that grows and shrinks by small amounts, millions of times. It takes units in steps, so that the shared
/// lock of the budget is seldom taken.
#[derive(Debug)]
pub struct SteppedCharge {
    /// Covers at least `used`.
    charge: Charge,
    used: usize,
}

impl Trust {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Secret, Self::Embedded, Self::Public];
}

impl<T> ByTrust<T> {
    /// Creates a value for each kind.
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
    /// Takes `amount` units; returns `None` if that is more than this account may hold.
    #[must_use]
    pub fn charge(self: &Arc<Self>, amount: usize) -> Option<Charge> {
        let mut charge = Charge { account: Arc::clone(self), amount: 0 };
        charge.grow(amount).then_some(charge)
    }

    /// Makes `charge`, which may be empty, cover `amount` units; returns `false` if that is more than this account may
    /// hold.
    pub fn cover(self: &Arc<Self>, charge: &mut Option<Charge>, amount: usize) -> bool {
        match charge {
            Some(charge) => charge.grow(amount.saturating_sub(charge.amount())),
            None => {
                *charge = self.charge(amount);
                charge.is_some()
            }
        }
    }

    /// Returns the units that this account holds.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Returns whether the account holds more than half of what it may hold.
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
    /// Takes `amount` more units; returns `false` and changes nothing if that is more than the account may hold.
    pub fn grow(&mut self, amount: usize) -> bool {
        let is_granted = self.account.take(amount);
        if is_granted {
            self.amount += amount;
        }
        is_granted
    }

    /// Returns `amount` units to the budget, or all if there are fewer.
    pub fn shrink(&mut self, amount: usize) {
        let amount = amount.min(self.amount);
        self.account.give_back(amount);
        self.amount -= amount;
    }

    /// Moves `amount` units, or all if there are fewer, into a separate charge.
    #[must_use]
    pub fn split(&mut self, amount: usize) -> Self {
        let amount = amount.min(self.amount);
        self.amount -= amount;
        Self { account: Arc::clone(&self.account), amount }
    }

    /// Returns the units that are held.
    #[must_use]
    pub fn amount(&self) -> usize {
        self.amount
    }
}

impl SteppedCharge {
    /// Creates an empty charge; returns `None` if the account may not hold anything more.
    #[must_use]
    pub fn new(account: &Arc<Account>) -> Option<Self> {
        Some(Self { charge: account.charge(0)?, used: 0 })
    }

    /// Takes `amount` more units; returns `false` and changes nothing if that is more than the account may hold.
    pub fn grow(&mut self, amount: usize) -> bool {
        let missing = (self.used + amount).saturating_sub(self.charge.amount());
        let is_granted = missing == 0 || self.charge.grow(missing.max(STEP)) || self.charge.grow(missing);
        if is_granted {
            self.used += amount;
        }
        is_granted
    }

    /// Returns `amount` units to the budget, or all if there are fewer.
    pub fn shrink(&mut self, amount: usize) {
        self.used = self.used.saturating_sub(amount);
        let spare = self.charge.amount() - self.used;
        if spare > 2 * STEP {
            self.charge.shrink(spare - STEP);
        }
    }

    /// Returns a charge for exactly the units that are in use.
    #[must_use]
    pub fn finish(mut self) -> Charge {
        self.charge.shrink(self.charge.amount() - self.used);
        self.charge
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.give_back(self.amount);
    }
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, usize> {
        self.used.lock()
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
    fn a_charge_begins_when_there_is_something_to_cover() {
        let (account, mut charge) = (Budget::new(100).account(), None);
        assert!(account.cover(&mut charge, 20) && account.cover(&mut charge, 50) && account.cover(&mut charge, 40));
        assert_eq!((account.used(), charge.as_ref().unwrap().amount()), (50, 50));
        assert!(!account.cover(&mut charge, 101) && account.used() == 50);
        drop(charge);
        let mut charge = None;
        assert!(!account.cover(&mut charge, 101) && charge.is_none() && account.used() == 0);
    }

    #[test]
    fn small_amounts_are_charged_in_steps_and_to_the_last_unit_in_the_end() {
        let account = Budget::new(9 * STEP).account();
        let mut charge = SteppedCharge::new(&account).unwrap();
        assert!(charge.grow(1) && account.used() == STEP, "a step");
        assert!(charge.grow(STEP - 1) && account.used() == STEP, "the rest of it");
        assert!(charge.grow(2 * STEP + 1) && account.used() == 3 * STEP + 1, "more than a step");
        charge.shrink(STEP);
        assert_eq!(account.used(), 3 * STEP + 1, "for what comes next");
        charge.shrink(STEP + 1);
        assert_eq!(account.used(), 2 * STEP, "no more than two steps are kept");
        assert!(charge.grow(7 * STEP - 1) && account.used() == 8 * STEP - 1);
        assert!(charge.grow(1) && account.used() == 8 * STEP, "there is no whole step left, but what is needed");
        assert!(!charge.grow(1) && account.used() == 8 * STEP);
        charge.shrink(10);
        let charge = charge.finish();
        assert_eq!((charge.amount(), account.used()), (8 * STEP - 10, 8 * STEP - 10));
    }

    proptest::proptest! {
        #[test]
        fn a_stepped_charge_ends_as_a_plain_one(changes in proptest::collection::vec((proptest::bool::ANY, 0usize..30_000), 0..60)) {
            let (stepped_account, plain_account) = (Budget::new(1 << 30).account(), Budget::new(1 << 30).account());
            let (mut stepped, mut plain) = (SteppedCharge::new(&stepped_account).unwrap(), plain_account.charge(0).unwrap());
            for (grows, amount) in changes {
                if grows {
                    assert!(stepped.grow(amount) && plain.grow(amount));
                } else {
                    stepped.shrink(amount);
                    plain.shrink(amount);
                }
                assert!((plain.amount()..=plain.amount() + 2 * STEP).contains(&stepped_account.used()));
            }
            assert_eq!(stepped.finish().amount(), plain.amount());
            assert_eq!(stepped_account.used(), 0);
        }
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
