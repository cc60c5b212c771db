//! Explanations of requests: an operator gets a ticket, sends a request with it, and reads which plugins were called.
//!
//! Neither the token of operators nor an explanation is ever sent to the listener of SDKs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::Request;
use http::HeaderName;
use parking_lot::Mutex;
use tokio::time::Instant;
use yardarm_core::hooks::{CallLog, RequestOrigin};

/// The request header with a ticket. Plugins do not see it once there was any ticket.
pub(crate) const TICKET_HEADER: HeaderName = HeaderName::from_static("yardarm-explain");
/// How long a ticket is valid.
pub(crate) const TICKET_LIFETIME: Duration = Duration::from_secs(300);
/// Maximum number of tickets; the oldest is dropped for a new one.
const MOST_TICKETS: usize = 100;

/// The valid tickets. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Explanations(Arc<Inner>);

#[derive(Default)]
struct Inner {
    tickets: Mutex<VecDeque<Ticket>>,
    /// Whether there was ever a ticket, so that other gateways do not look for the header.
    is_used: AtomicBool,
}

struct Ticket {
    number: String,
    log: Arc<CallLog>,
    until: Instant,
}

impl Explanations {
    /// Creates a ticket.
    pub(crate) fn create(&self) -> String {
        let number = format!("{:032x}", rand::random::<u128>());
        let ticket = Ticket { number: number.clone(), log: Arc::default(), until: Instant::now() + TICKET_LIFETIME };
        let mut tickets = self.0.tickets.lock();
        if tickets.len() >= MOST_TICKETS {
            tickets.pop_front();
        }
        tickets.push_back(ticket);
        self.0.is_used.store(true, Ordering::Release);
        number
    }

    /// Returns the log of a ticket that is valid.
    pub(crate) fn find(&self, number: &str) -> Option<Arc<CallLog>> {
        let mut tickets = self.0.tickets.lock();
        let now = Instant::now();
        tickets.retain(|ticket| ticket.until > now);
        tickets.iter().find(|ticket| ticket.number == number).map(|ticket| Arc::clone(&ticket.log))
    }

    /// Has the calls of a request logged, if it has a ticket.
    pub(crate) fn apply(&self, request: &mut Request) {
        if !self.0.is_used.load(Ordering::Acquire) {
            return;
        }
        let Some(number) = request.headers_mut().remove(TICKET_HEADER) else { return };
        let log = number.to_str().ok().and_then(|number| self.find(number));
        if let Some(origin) = request.extensions_mut().get_mut::<RequestOrigin>() {
            origin.call_log = log;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn tickets_end_and_are_bounded_in_number() {
        let explanations = Explanations::default();
        let first = explanations.create();
        assert!(explanations.find(&first).is_some());
        assert!(explanations.find("").is_none());
        tokio::time::advance(TICKET_LIFETIME).await;
        assert!(explanations.find(&first).is_none());
        let oldest = explanations.create();
        let numbers: Vec<_> = (0..MOST_TICKETS).map(|_| explanations.create()).collect();
        assert!(explanations.find(&oldest).is_none());
        assert!(numbers.iter().all(|number| explanations.find(number).is_some()));
    }
}
