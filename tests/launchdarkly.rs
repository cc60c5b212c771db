//! What LaunchDarkly's SDKs and its cloud see of the gateway. `L…` and `U…` are rows of the compatibility pages.

mod auto_config;
mod big_segments;
mod bombs;
mod browser;
mod credentials;
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
mod offline;
mod outage;
mod parity;
mod ping;
mod polling;
mod races;
mod reconnects;
mod redirects;
mod rotation;
mod routing;
mod secure_mode;
mod server;
mod states;
mod status;
mod store;
mod stream_bytes;
mod summaries;
mod upstream;

pub(crate) use self::evaluation::segment_of as context_segment;
pub(crate) use self::evaluation_results::flags as flags_of_every_kind;
pub(crate) use self::parity::{Caller, Family, ROUTES, Route};
