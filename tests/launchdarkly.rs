//! What LaunchDarkly's SDKs and its cloud see of the gateway. `L…`, `U…` and `V…` are rows of
//! `docs/compatibility/launchdarkly.md`.

pub(crate) mod auto_config;
mod big_segments;
mod bombs;
mod browser;
mod client_objects;
mod credentials;
mod depth;
mod diagnostics;
mod evaluated;
mod evaluation;
mod evaluation_results;
mod event_load;
mod events;
mod filters;
mod flag_data;
mod metrics;
mod objects;
pub(crate) mod offline;
mod outage;
mod outbound;
mod panics;
mod parity;
mod ping;
mod polling;
mod races;
mod reconnects;
mod redirects;
mod relay_program;
mod rotation;
mod routing;
mod secure_mode;
mod server;
mod states;
mod status;
mod store;
mod store_outages;
mod stream_bytes;
mod summaries;
mod upstream;
mod versions;

pub(crate) use self::evaluation::segment_of as context_segment;
pub(crate) use self::evaluation_results::flags as flags_of_every_kind;
pub(crate) use self::parity::{Caller, Family, ROUTES, Route};
