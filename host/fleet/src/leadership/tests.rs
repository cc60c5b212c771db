use proptest::prelude::*;

use super::*;

const LIFETIME: Duration = Duration::from_millis(2500);
const HEARTBEAT: Duration = Duration::from_millis(500);
const GATEWAYS: usize = 3;

fn at(start: Instant, ms: u64) -> Instant {
    start + Duration::from_millis(ms)
}

#[tokio::test]
async fn a_gateway_depends_on_itself_once_its_lease_may_have_ended() {
    let start = Instant::now();
    let mut leadership = Leadership::new(LIFETIME);
    assert_eq!(leadership.set_unreachable(start), Role::Alone, "without any answer, at once");
    assert_eq!(leadership.set_holder(at(start, 500), "a", Some("b")), Role::Follower);
    assert_eq!(leadership.set_unreachable(at(start, 2999)), Role::Follower);
    assert_eq!(leadership.set_unreachable(at(start, 3000)), Role::Alone);
    assert_eq!(leadership.set_holder(at(start, 3500), "a", Some("a")), Role::Leader);
}

#[tokio::test]
async fn a_leader_that_cannot_reach_upstream_gives_up_the_lease_if_another_can_take_it() {
    let start = Instant::now();
    let mut leadership = Leadership::new(LIFETIME);
    leadership.set_holder(start, "a", Some("a"));
    let mut next = |ms, is_valid, has_others| leadership.next_action(at(start, ms), is_valid, has_others);
    assert_eq!(next(0, false, false), LeaseAction::Claim);
    assert_eq!(next(60_000, false, false), LeaseAction::Claim, "no other gateway");
    assert_eq!(next(60_500, true, true), LeaseAction::Claim);
    assert_eq!(next(61_000, false, true), LeaseAction::Claim);
    assert_eq!(next(63_999, false, true), LeaseAction::Claim);
    assert_eq!(next(64_000, false, true), LeaseAction::Release);
    leadership.set_holder(at(start, 64_000), "a", None);
    assert_eq!(leadership.next_action(at(start, 64_500), false, true), LeaseAction::Wait, "another one may try");
    assert_eq!(leadership.next_action(at(start, 65_500), false, true), LeaseAction::Claim, "but none did");
    leadership.set_holder(at(start, 66_000), "a", Some("b"));
    assert_eq!(leadership.next_action(at(start, 70_000), false, true), LeaseAction::Wait);
    assert_eq!(
        leadership.next_action(at(start, 75_000), false, true),
        LeaseAction::Claim,
        "if the other one fails later"
    );
}

/// What happens to a gateway or to the database.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// A gateway stops for a while without noticing, as if suspended.
    Suspend(usize, u64),
    /// A gateway is killed and starts again.
    Restart(usize),
    /// A gateway can or cannot reach the database, or upstream.
    Database(usize, bool),
    Upstream(usize, bool),
    /// The database loses everything.
    Flush,
}

fn events() -> impl Strategy<Value = Vec<(u64, Event)>> {
    let gateway = 0..GATEWAYS;
    let event = prop_oneof![
        (gateway.clone(), 100_u64..8000).prop_map(|(gateway, ms)| Event::Suspend(gateway, ms)),
        gateway.clone().prop_map(Event::Restart),
        (gateway.clone(), any::<bool>()).prop_map(|(gateway, is_up)| Event::Database(gateway, is_up)),
        (gateway, any::<bool>()).prop_map(|(gateway, is_up)| Event::Upstream(gateway, is_up)),
        Just(Event::Flush),
    ];
    prop::collection::vec((0_u64..4000, event), 0..24)
}

struct Gateway {
    leadership: Leadership,
    name: String,
    role: Role,
    /// The next heartbeat, in milliseconds since the start.
    due_at: u64,
    has_database: bool,
    has_upstream: bool,
    /// Since when it is connected to upstream, which takes a moment to become valid.
    connected_at: Option<u64>,
}

/// Three gateways and a database, in steps of 50 ms.
struct World {
    start: Instant,
    now: u64,
    gateways: Vec<Gateway>,
    /// Holder and end of the lease.
    lease: Option<(String, u64)>,
    restarts: usize,
}

impl World {
    fn new() -> Self {
        let gateway = |it: usize| Gateway {
            leadership: Leadership::new(LIFETIME),
            name: it.to_string(),
            role: Role::Undecided,
            due_at: it as u64 * 130,
            has_database: true,
            has_upstream: true,
            connected_at: None,
        };
        let gateways = (0..GATEWAYS).map(gateway).collect();
        Self { start: Instant::now(), now: 0, gateways, lease: None, restarts: 0 }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Suspend(it, ms) => self.gateways[it].due_at = self.gateways[it].due_at.max(self.now + ms),
            Event::Restart(it) => {
                self.restarts += 1;
                let gateway = &mut self.gateways[it];
                gateway.leadership = Leadership::new(LIFETIME);
                gateway.name = format!("{it}-{}", self.restarts);
                (gateway.role, gateway.connected_at) = (Role::Undecided, None);
            }
            Event::Database(it, is_up) => self.gateways[it].has_database = is_up,
            Event::Upstream(it, is_up) => self.gateways[it].has_upstream = is_up,
            Event::Flush => self.lease = None,
        }
    }

    fn advance(&mut self, ms: u64) {
        let end = self.now + ms;
        while self.now < end {
            self.now += 50;
            let now = self.now;
            self.lease.take_if(|it| it.1 <= now);
            for it in 0..GATEWAYS {
                if self.gateways[it].due_at <= now {
                    self.heartbeat(it);
                }
            }
        }
    }

    fn heartbeat(&mut self, it: usize) {
        let (now, instant, has_others) = (self.now, at(self.start, self.now), self.members() > 1);
        let gateway = &mut self.gateways[it];
        gateway.due_at = now + HEARTBEAT.as_millis() as u64;
        let is_valid = gateway.is_valid(now);
        let action = gateway.leadership.next_action(instant, is_valid, has_others);
        gateway.role = if gateway.has_database {
            let is_holder = self.lease.as_ref().is_some_and(|it| it.0 == gateway.name);
            match action {
                LeaseAction::Release if is_holder => self.lease = None,
                LeaseAction::Claim if is_holder || self.lease.is_none() => {
                    self.lease = Some((gateway.name.clone(), now + LIFETIME.as_millis() as u64));
                }
                _ => (),
            }
            let holder = self.lease.as_ref().map(|it| &*it.0);
            gateway.leadership.set_holder(instant, &gateway.name, holder)
        } else {
            gateway.leadership.set_unreachable(instant)
        };
        match (gateway.role.is_connected(), gateway.connected_at) {
            (true, None) => gateway.connected_at = Some(now),
            (false, _) => gateway.connected_at = None,
            _ => (),
        }
    }

    fn members(&self) -> usize {
        self.gateways.iter().filter(|it| it.has_database).count()
    }

    fn led_by(&self) -> Option<&Gateway> {
        let name = &self.lease.as_ref()?.0;
        self.gateways.iter().find(|it| it.name == *name)
    }
}

impl Gateway {
    fn is_valid(&self, now: u64) -> bool {
        self.has_upstream && self.connected_at.is_some_and(|it| now >= it + 100)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// After any history, as soon as nothing happens any more, every gateway that can get data gets it: from upstream, or
    /// from a leader that is connected to upstream.
    #[test]
    fn after_any_history_every_gateway_has_a_path_to_upstream(history in events()) {
        let mut world = World::new();
        for (pause, event) in history {
            world.advance(pause);
            world.happen(event);
            let leaders = world.gateways.iter().filter(|it| world.lease.as_ref().is_some_and(|lease| lease.0 == it.name));
            prop_assert!(leaders.count() <= 1);
        }
        // The longest suspension, and every gateway without upstream gives the lease up once.
        world.advance(8_000 + 20_000);
        let reachable = world.gateways.iter().filter(|it| it.has_database && it.has_upstream).count();
        let mut seen = [false; GATEWAYS];
        // Where some gateway cannot reach upstream, the lease may be tried there from time to time.
        for _ in 0..20 {
            world.advance(1000);
            let has_source = world.led_by().is_some_and(|it| it.role == Role::Leader && it.is_valid(world.now));
            for (it, seen) in world.gateways.iter().zip(&mut seen) {
                prop_assert_eq!(it.role == Role::Alone, !it.has_database);
                let own = it.role.is_connected() && it.is_valid(world.now);
                *seen |= own || (it.role == Role::Follower && has_source);
            }
        }
        for (it, seen) in world.gateways.iter().zip(seen) {
            let can_have = if it.has_database { reachable > 0 } else { it.has_upstream };
            prop_assert_eq!(seen, can_have, "{} {:?}", it.name, it.role);
        }
        if reachable == world.members() && reachable > 0 {
            prop_assert!(world.led_by().is_some_and(|it| it.role == Role::Leader && it.is_valid(world.now)));
        }
    }

    /// While all can reach the database and upstream, a leader that is killed is replaced within five seconds.
    #[test]
    fn a_killed_leader_is_replaced_within_five_seconds(pause in 3_000_u64..10_000) {
        let mut world = World::new();
        world.advance(pause);
        let leader = world.gateways.iter().position(|it| it.role == Role::Leader).expect("a leader");
        world.happen(Event::Suspend(leader, 60_000));
        world.gateways[leader].has_upstream = false;
        world.advance(5_000);
        let next = world.led_by().expect("a leader");
        prop_assert!(next.is_valid(world.now) && next.role == Role::Leader);
    }
}
