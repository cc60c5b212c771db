use std::future::poll_fn;

use super::*;
use crate::hooks::{Denial, DenialClass, EnvironmentHooks, HookFailure, HookFuture, Plan, RequestAuth};

fn request(environment: &str, credential: &str) -> AdmittedRequest {
    let label = EnvironmentLabel::new("vendor", environment);
    RequestFacts { credential: Some(credential.into()), ..RequestFacts::new(label, "all", "server") }.into()
}

#[test]
fn every_end_is_counted_by_its_reason() {
    let streams = StreamRegistry::new(10);
    let first = streams.open(request("a", "k1"), None).unwrap();
    let second = streams.open(request("a", "k2"), None).unwrap();
    let ended = streams.end_where(EndReason::CredentialWithdrawn, |facts| {
        facts.credential.as_ref().is_some_and(|it| it.expose() == "k1")
    });
    assert_eq!(ended, 1);
    assert_eq!(first.ending(), Some(EndReason::CredentialWithdrawn));
    assert_eq!(second.ending(), None);
    drop((first, second));
    let counts = streams.counts();
    assert_eq!((counts[0].open, counts[0].opened), (0, 2));
    let ended: Vec<_> = counts[0].ended.iter().filter(|(_, count)| *count > 0).copied().collect();
    assert_eq!(ended, [("client-gone", 1), ("credential-withdrawn", 1)]);
}

#[test]
fn open_streams_are_counted_in_all_and_by_route() {
    let streams = StreamRegistry::new(10);
    assert!(streams.is_empty());
    let open = ["a", "b", "a"].map(|it| streams.open(request(it, "k"), None).unwrap());
    assert_eq!((streams.len(), streams.is_empty()), (3, false));
    let counts = streams.counts();
    let mut counts: Vec<_> = counts.iter().map(|it| (&**it.environment.name(), it.open)).collect();
    counts.sort_unstable();
    assert_eq!(counts, [("a", 2), ("b", 1)]);
    drop(open);
    assert_eq!((streams.len(), streams.is_empty()), (0, true));
}

#[test]
fn a_stream_can_end_itself() {
    let streams = StreamRegistry::new(1);
    let stream = streams.open(request("a", "k"), None).unwrap();
    stream.end(EndReason::FellBehind);
    assert_eq!(stream.ending(), Some(EndReason::FellBehind));
}

#[test]
fn the_number_of_streams_is_limited() {
    let streams = StreamRegistry::new(1);
    let first = streams.open(request("a", "k"), None).unwrap();
    assert_eq!(streams.open(request("a", "k"), None).err(), Some(TooManyStreams));
    drop(first);
    assert!(streams.open(request("a", "k"), None).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_its_lifetime() {
    let lifecycle = Lifecycle::new();
    let streams = StreamRegistry::new(10);
    streams.watch(&Hooks::none(), Duration::ZERO, &lifecycle);
    let stream = streams.open(request("a", "k"), Some(Duration::from_secs(5))).unwrap();
    let start = Instant::now();
    let reason = poll_fn(|context| stream.poll_ending(context)).await;
    assert_eq!(reason, EndReason::Lifetime);
    assert_eq!(start.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn draining_spreads_the_ends_over_the_window() {
    let streams = StreamRegistry::new(10);
    let open: Vec<_> = (0..4).map(|_| streams.open(request("a", "k"), None).unwrap()).collect();
    let start = Instant::now();
    let ends = futures_util::future::join_all(open.iter().map(|stream| async {
        poll_fn(|context| stream.poll_ending(context)).await;
        start.elapsed().as_secs()
    }));
    let (_, mut ends) = tokio::join!(streams.drain(Duration::from_secs(8)), ends);
    ends.sort_unstable();
    assert_eq!(ends, [2, 4, 6, 8]);
}

/// Denies one credential, or fails.
struct Gate {
    identity: u64,
    denies: &'static str,
    is_broken: bool,
}

impl RequestAuth for Gate {
    fn identity(&self) -> u64 {
        self.identity
    }

    fn authenticate<'a>(&'a self, facts: &'a Arc<RequestFacts>) -> HookFuture<'a, Result<Admission, HookFailure>> {
        Box::pin(async {
            if self.is_broken {
                return Err(HookFailure { plugin: "gate".into(), class: "trap" });
            }
            let denied = facts.credential.as_ref().is_some_and(|it| it.expose() == self.denies);
            Ok(if denied {
                Admission::Denied(Denial::new("gate".into(), DenialClass::Forbidden))
            } else {
                Admission::Allowed { identity: None, response_headers: Vec::new() }
            })
        })
    }
}

struct GatePlan(u64, Arc<EnvironmentHooks>);

impl Plan for GatePlan {
    fn generation(&self) -> u64 {
        self.0
    }

    fn environment(&self, _: &EnvironmentLabel) -> Arc<EnvironmentHooks> {
        Arc::clone(&self.1)
    }
}

fn plan(generation: u64, gate: Gate) -> Arc<dyn Plan> {
    let hooks = EnvironmentHooks { request_auth: Some(Arc::new(gate)), ..EnvironmentHooks::default() };
    Arc::new(GatePlan(generation, Arc::new(hooks)))
}

#[tokio::test(start_paused = true)]
async fn open_streams_are_authorized_again_by_a_new_chain() {
    let (lifecycle, hooks, streams) = (Lifecycle::new(), Hooks::none(), StreamRegistry::new(10));
    streams.watch(&hooks, Duration::from_secs(30), &lifecycle);
    let good = streams.open(request("a", "good"), None).unwrap();
    let bad = streams.open(request("a", "bad"), None).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;

    hooks.replace(plan(1, Gate { identity: 7, denies: "bad", is_broken: true }));
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!((good.ending(), bad.ending()), (None, None), "a broken plugin ends nothing");

    hooks.replace(plan(2, Gate { identity: 8, denies: "bad", is_broken: false }));
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!((good.ending(), bad.ending()), (None, Some(EndReason::ApprovalWithdrawn)));
}
