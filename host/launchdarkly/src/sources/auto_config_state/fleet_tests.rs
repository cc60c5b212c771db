//! Random histories of key rotation and leadership against a model.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::identity::SdkKind;

const GATEWAYS: usize = 3;
const COMMON: CommonConfig =
    CommonConfig { allowed_origins: Vec::new(), allowed_headers: Vec::new(), prefix: None, table_name: None };

#[derive(Debug, Clone, Copy)]
enum Step {
    /// Upstream replaces the key; the one before expires in the far future.
    Rotate,
    /// A gateway becomes the leader, and the former one follows.
    Lead(usize),
    /// A gateway loses the database, or has it again.
    Alone(usize),
    Rejoin(usize),
    /// A connected gateway receives what upstream has sent.
    Receive(usize),
    /// The leader publishes its list.
    Publish,
    /// A follower reads the published list.
    Follow(usize),
    /// A gateway is killed and starts with the list on its disk.
    Restart(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let gateway = 0..GATEWAYS;
    prop_oneof![
        3 => Just(Step::Rotate),
        2 => gateway.clone().prop_map(Step::Lead),
        1 => gateway.clone().prop_map(Step::Alone),
        1 => gateway.clone().prop_map(Step::Rejoin),
        4 => gateway.clone().prop_map(Step::Receive),
        3 => Just(Step::Publish),
        4 => gateway.clone().prop_map(Step::Follow),
        1 => gateway.prop_map(Step::Restart),
    ]
}

struct Gateway {
    state: AutoConfigState,
    is_alone: bool,
    /// Whether its connection is open, so that it receives changes and not the whole list.
    is_connected: bool,
    is_exact: bool,
    /// The newest version whose keys it has accepted.
    version: i64,
}

struct World {
    /// The version of the environment at upstream.
    version: i64,
    leader: usize,
    published: Option<PersistedList>,
    gateways: Vec<Gateway>,
}

/// The keys that every gateway must accept at a version: the newest, and the one before.
fn keys_at(version: i64) -> Vec<String> {
    (0.max(version - 1)..=version).rev().map(|it| format!("sdk-{it}")).collect()
}

fn description(version: i64) -> Value {
    let far = 4_102_444_800_000_u64;
    let mut key = json!({"value": format!("sdk-{version}")});
    if version > 0 {
        key["expiring"] = json!({"value": format!("sdk-{}", version - 1), "timestamp": far});
    }
    json!({
        "envID": "id", "envKey": "production", "envName": "Production", "projKey": "shop", "projName": "Shop",
        "sdkKey": key, "mobKey": "mob", "version": version + 1,
    })
}

impl World {
    fn new() -> Self {
        let gateway = || Gateway {
            state: AutoConfigState::new(COMMON),
            is_alone: false,
            is_connected: false,
            is_exact: false,
            version: -1,
        };
        let gateways = std::iter::repeat_with(gateway).take(GATEWAYS).collect();
        Self { version: 0, leader: 0, published: None, gateways }
    }

    fn go(&mut self, step: Step) {
        match step {
            Step::Rotate => self.version += 1,
            Step::Lead(it) if !self.gateways[it].is_alone => {
                if self.leader != it {
                    let former = &mut self.gateways[self.leader];
                    (former.is_connected, former.is_exact) = (former.is_alone, false);
                }
                self.leader = it;
            }
            Step::Alone(it) => self.gateways[it].is_alone = true,
            Step::Rejoin(it) => {
                let is_leader = self.leader == it;
                let gateway = &mut self.gateways[it];
                gateway.is_alone = false;
                gateway.is_connected &= is_leader;
                gateway.is_exact = false;
            }
            Step::Receive(it) if it == self.leader || self.gateways[it].is_alone => self.receive(it),
            Step::Publish if !self.gateways[self.leader].is_alone => {
                let state = &self.gateways[self.leader].state;
                if !state.is_restored() && state.len() > 0 {
                    self.published = Some(state.to_persisted());
                }
            }
            Step::Follow(it) if it != self.leader && !self.gateways[it].is_alone => {
                let gateway = &mut self.gateways[it];
                if let Some(list) = self.published.clone() {
                    let is_exact = std::mem::replace(&mut gateway.is_exact, true);
                    gateway.state.follow(list, is_exact, 0);
                }
            }
            Step::Restart(it) => {
                let gateway = &mut self.gateways[it];
                let list = gateway.state.to_persisted();
                gateway.state = AutoConfigState::new(COMMON);
                gateway.state.restore(list, 0);
                (gateway.is_connected, gateway.is_exact) = (false, false);
            }
            Step::Lead(_) | Step::Receive(_) | Step::Publish | Step::Follow(_) => (),
        }
    }

    fn receive(&mut self, it: usize) {
        let gateway = &mut self.gateways[it];
        let messages = if std::mem::replace(&mut gateway.is_connected, true) {
            let first = gateway.version.max(0);
            let patch = |it| ("patch", json!({"path": "/environments/id", "data": description(it)}));
            (first..=self.version).map(patch).collect()
        } else {
            vec![("put", json!({"path": "/", "data": {"environments": {"id": description(self.version)}}}))]
        };
        for (event, data) in messages {
            let message = AutoConfigMessage::read(event, &data.to_string()).expect("a message");
            gateway.state.apply(message, 0);
        }
    }

    /// The version whose keys a gateway accepts; `None` before it has any.
    fn accepted_version(&self, it: usize) -> Result<Option<i64>, TestCaseError> {
        let variants = self.gateways[it].state.variants();
        let Some(variant) = variants.first() else { return Ok(None) };
        let accepted = variant.config.credentials.accepted();
        let accepted: Vec<_> = accepted.filter(|it| it.0 == SdkKind::Server).map(|it| it.1.to_owned()).collect();
        let newest = variant.config.credentials.sdk_key().expose();
        let version = (0..=self.version).find(|it| format!("sdk-{it}") == newest);
        prop_assert!(version.is_some(), "a key that upstream never had: {newest}");
        for key in version.map(keys_at).unwrap_or_default() {
            prop_assert!(accepted.contains(&key), "{key} is not among {accepted:?}");
        }
        Ok(version)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// At every moment each gateway accepts the keys of one version, and never returns to an older one, so a key that it has
    /// accepted and that is still valid upstream is never refused. In the end all accept what upstream accepts.
    #[test]
    fn no_gateway_returns_to_older_keys(steps in prop::collection::vec(step(), 0..40)) {
        let mut world = World::new();
        for step in steps {
            world.go(step);
            for it in 0..GATEWAYS {
                let version = world.accepted_version(it)?.unwrap_or(-1);
                prop_assert!(version >= world.gateways[it].version, "gateway {it} after {step:?}");
                world.gateways[it].version = version;
            }
        }
        for it in 0..GATEWAYS {
            world.go(Step::Rejoin(it));
        }
        let leader = world.leader;
        world.go(Step::Receive(leader));
        world.go(Step::Publish);
        for it in 0..GATEWAYS {
            world.go(Step::Follow(it));
            prop_assert_eq!(world.accepted_version(it)?, Some(world.version), "gateway {}", it);
        }
    }
}
