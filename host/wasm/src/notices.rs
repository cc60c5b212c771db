//! Changes of flag data that wait for the `change-listener` of a plugin: the newest of each item, bounded in number. What
//! waits stays when another version of the plugin replaces the running one.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use yardarm_core::EnvironmentLabel;
use yardarm_core::backoff::Backoff;
use yardarm_core::hooks::{ChangeListener, ChangeNotice, ItemHead};
use yardarm_core::time::unix_ms;

use crate::call::BindingInstance;
use crate::runtime::interface::Announce;
use crate::vocabulary::CallError;

/// Maximum number of items of one environment that wait.
const MOST_ITEMS: usize = 1_000;
/// Time until a call that failed is repeated, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The mailboxes of all plugins that run, by name.
#[derive(Clone, Default)]
pub(crate) struct Mailboxes(Arc<Mutex<HashMap<Arc<str>, Weak<Mailbox>>>>);

/// What waits for one plugin.
#[derive(Default)]
pub(crate) struct Mailbox(Mutex<State>);

#[derive(Default)]
struct State {
    /// In the order in which environments changed first.
    waiting: VecDeque<Waiting>,
    /// The bindings of the version that runs.
    recipients: Vec<Weak<BindingInstance>>,
    /// Whether a task passes on what waits.
    is_served: bool,
}

struct Waiting {
    environment: EnvironmentLabel,
    /// Changed items with their place in the order of arrival, by kind and key. Unused if everything may have changed.
    items: BTreeMap<(&'static str, Arc<str>), (u64, ItemHead)>,
    is_everything: bool,
    left_out: u32,
    arrived: u64,
    at_ms: u64,
}

/// The listeners of one environment.
pub(crate) struct Listeners(pub(crate) Vec<Arc<Mailbox>>);

impl ChangeListener for Listeners {
    fn changed(&self, environment: &EnvironmentLabel, items: &[ItemHead]) {
        for mailbox in &self.0 {
            mailbox.add(environment, items);
            mailbox.serve();
        }
    }
}

impl Mailboxes {
    /// Returns the mailbox of a plugin.
    pub(crate) fn of(&self, plugin: &Arc<str>) -> Arc<Mailbox> {
        let mut all = self.0.lock();
        all.retain(|_, mailbox| mailbox.strong_count() > 0);
        if let Some(mailbox) = all.get(plugin).and_then(Weak::upgrade) {
            return mailbox;
        }
        let mailbox = Arc::default();
        all.insert(Arc::clone(plugin), Arc::downgrade(&mailbox));
        mailbox
    }
}

impl Mailbox {
    /// Sets the bindings that receive what waits and what comes.
    pub(crate) fn set_recipients(self: &Arc<Self>, bindings: &[Arc<BindingInstance>]) {
        self.0.lock().recipients = bindings.iter().map(Arc::downgrade).collect();
        self.serve();
    }

    fn add(&self, environment: &EnvironmentLabel, items: &[ItemHead]) {
        let mut state = self.0.lock();
        let found = state.waiting.iter().position(|it| it.environment == *environment);
        let index = found.unwrap_or_else(|| {
            state.waiting.push_back(Waiting::new(environment.clone()));
            state.waiting.len() - 1
        });
        let left_out = state.waiting[index].add(items);
        if left_out > 0 {
            report(&state, left_out);
        }
    }

    /// Starts a task that passes on what waits, unless there is one.
    fn serve(self: &Arc<Self>) {
        let mut state = self.0.lock();
        if state.is_served || state.waiting.is_empty() {
            return;
        }
        let Some(binding) = state.recipients.iter().find_map(Weak::upgrade) else { return };
        state.is_served = true;
        drop(state);
        let served = Served(Some(Arc::clone(self)));
        let mailbox = Arc::clone(self);
        binding.lifecycle.spawn("plugin change listener", async move {
            mailbox.pass_on().await;
            served.end();
        });
    }

    async fn pass_on(&self) {
        let Ok(mut backoff) = Backoff::new(RETRY.0, RETRY.1) else { return };
        while let Some((notice, binding)) = self.next() {
            let called = binding
                .call(&notice.environment, &Announce { notice: notice.clone() }, binding.bind.deadline, Ok)
                .await;
            match called {
                Ok(()) => backoff.reset(),
                // The plugin does not want it, now or later.
                Err(CallError::Guest { kind: "invalid-input", .. }) => {
                    let count = u32::try_from(notice.items.len().max(1)).unwrap_or(u32::MAX);
                    binding.guest.context.counters.count_left_out(count);
                }
                Err(_) => {
                    drop(binding);
                    self.put_back(notice);
                    tokio::time::sleep(backoff.next_delay()).await;
                }
            }
        }
    }

    /// Takes the next notice, with the binding that receives it. What has no receiver any more is removed. `None` if nothing
    /// waits; the task ends then.
    fn next(&self) -> Option<(ChangeNotice, Arc<BindingInstance>)> {
        let mut state = self.0.lock();
        while let Some(waiting) = state.waiting.pop_front() {
            let bindings = state.recipients.iter().filter_map(Weak::upgrade);
            if let Some(binding) = bindings.into_iter().find(|it| it.bind.covers(&waiting.environment)) {
                return Some((waiting.into_notice(), binding));
            }
        }
        state.is_served = false;
        None
    }

    /// Lets a notice wait again, with what has come since.
    fn put_back(&self, notice: ChangeNotice) {
        let mut state = self.0.lock();
        let found = state.waiting.iter().position(|it| it.environment == notice.environment);
        let newer = found.and_then(|index| state.waiting.remove(index));
        let mut waiting = Waiting::new(notice.environment);
        (waiting.left_out, waiting.at_ms) = (notice.left_out, notice.at_ms);
        let mut left_out = waiting.add(&notice.items);
        if let Some(newer) = newer.map(Waiting::into_notice) {
            left_out += waiting.add(&newer.items);
            waiting.left_out = waiting.left_out.saturating_add(newer.left_out);
        }
        state.waiting.push_back(waiting);
        if left_out > 0 {
            report(&state, left_out);
        }
    }
}

/// Marks the mailbox as not served if the task ends before it has passed on everything.
struct Served(Option<Arc<Mailbox>>);

impl Served {
    /// Leaves the mailbox as it is: the task has ended because nothing waits.
    fn end(mut self) {
        self.0 = None;
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(mailbox) = &self.0 {
            mailbox.0.lock().is_served = false;
        }
    }
}

/// Counts and logs changes that were left out.
fn report(state: &State, count: u32) {
    let Some(binding) = state.recipients.iter().find_map(Weak::upgrade) else { return };
    let context = &binding.guest.context;
    context.counters.count_left_out(count);
    if let Some(suppressed) = context.counters.reports.admit() {
        tracing::warn!(plugin = %context.name, count, suppressed, "changes were left out, because the listener is slow");
    }
}

impl Waiting {
    fn new(environment: EnvironmentLabel) -> Self {
        let items = BTreeMap::new();
        Self { environment, items, is_everything: false, left_out: 0, arrived: 0, at_ms: unix_ms() }
    }

    /// Adds changes; returns how many older ones were left out.
    fn add(&mut self, items: &[ItemHead]) -> u32 {
        if items.is_empty() {
            self.is_everything = true;
            self.items.clear();
        }
        if self.is_everything {
            return 0;
        }
        let mut left_out = 0;
        for head in items {
            self.arrived += 1;
            self.items.insert((head.kind, Arc::clone(&head.key)), (self.arrived, head.clone()));
            if self.items.len() > MOST_ITEMS
                && let Some(oldest) = self.items.iter().min_by_key(|(_, (arrived, _))| *arrived)
            {
                let oldest = oldest.0.clone();
                self.items.remove(&oldest);
                left_out += 1;
            }
        }
        self.left_out = self.left_out.saturating_add(left_out);
        left_out
    }

    fn into_notice(self) -> ChangeNotice {
        let mut items: Vec<_> = self.items.into_values().collect();
        items.sort_by_key(|(arrived, _)| *arrived);
        let items = items.into_iter().map(|(_, head)| head).collect();
        ChangeNotice { environment: self.environment, items, left_out: self.left_out, at_ms: self.at_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(key: &str, version: u64) -> ItemHead {
        ItemHead { kind: "flag", key: key.into(), version, is_deleted: false }
    }

    fn notice(mailbox: &Mailbox) -> ChangeNotice {
        mailbox.0.lock().waiting.pop_front().unwrap().into_notice()
    }

    #[test]
    fn only_the_newest_change_of_an_item_waits() {
        let (mailbox, environment) = (Mailbox::default(), EnvironmentLabel::new("none", "a"));
        mailbox.add(&environment, &[head("x", 1), head("y", 1)]);
        mailbox.add(&environment, &[head("x", 2)]);
        assert_eq!(notice(&mailbox).items, [head("y", 1), head("x", 2)]);
    }

    #[test]
    fn everything_replaces_single_changes() {
        let (mailbox, environment) = (Mailbox::default(), EnvironmentLabel::new("none", "a"));
        mailbox.add(&environment, &[head("x", 1)]);
        mailbox.add(&environment, &[]);
        mailbox.add(&environment, &[head("x", 2)]);
        mailbox.add(&EnvironmentLabel::new("none", "b"), &[head("z", 1)]);
        assert_eq!(notice(&mailbox).items, []);
        assert_eq!(notice(&mailbox).items, [head("z", 1)]);
    }

    #[test]
    fn the_oldest_changes_are_left_out_and_counted() {
        let (mailbox, environment) = (Mailbox::default(), EnvironmentLabel::new("none", "a"));
        for n in 0..MOST_ITEMS + 5 {
            mailbox.add(&environment, &[head(&n.to_string(), 1)]);
        }
        let first = notice(&mailbox);
        assert_eq!((first.items.len(), first.left_out, &*first.items[0].key), (MOST_ITEMS, 5, "5"));
        mailbox.add(&environment, &[head("5", 2), head("new", 1)]);
        mailbox.put_back(first);
        let again = notice(&mailbox);
        assert_eq!((again.items.len(), again.left_out, &*again.items[0].key), (MOST_ITEMS, 6, "7"));
        assert_eq!(again.items[MOST_ITEMS - 2..], [head("5", 2), head("new", 1)]);
    }
}
