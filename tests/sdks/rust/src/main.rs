//! LaunchDarkly's Rust server SDK, unmodified, controlled like `../../node/server.mjs`: the same commands, the same facts. It
//! reports no changes, because this SDK has no listeners for them.

use std::io::BufRead;
use std::time::Duration;

use launchdarkly_server_sdk::{Client, ConfigBuilder, Context, FlagDetailConfig, ServiceEndpointsBuilder};
use serde_json::{Value, json};

#[tokio::main]
async fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [base, key] = &arguments[..] else { panic!("the arguments are an address and a key") };
    let endpoints = ServiceEndpointsBuilder::new().relay_proxy(base).clone();
    let config = ConfigBuilder::new(key).service_endpoints(&endpoints).build().expect("a valid configuration");
    let client = Client::build(config).expect("a client");
    client.start_with_default_executor();
    let is_ready = client.wait_for_initialization(Duration::from_secs(30)).await == Some(true);
    println!("{}", json!({"ready": is_ready}));
    // Lines are read on this thread, and the SDK works on the others.
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a line of text");
        let (command, rest) = line.split_once(' ').unwrap_or((&line, ""));
        if command == "close" {
            break;
        }
        println!("{}", obey(&client, command, rest));
    }
    client.close();
}

/// Returns the fact that answers a command.
fn obey(client: &Client, command: &str, rest: &str) -> Value {
    match command {
        "evaluate" => {
            let (flag, context) = parsed(rest);
            let value = client.json_variation(&context, flag, json!("default"));
            json!({ "value": value })
        }
        "all" => {
            let state = client.all_flags_detail(&context(rest), FlagDetailConfig::new());
            let state = serde_json::to_value(state).expect("JSON");
            let values = state.as_object().into_iter().flatten().filter(|(name, _)| !name.starts_with('$'));
            json!({ "all": values.map(|(name, value)| (name.clone(), value.clone())).collect::<serde_json::Map<_, _>>() })
        }
        "track" => {
            let (event, context) = parsed(rest);
            client.track_event(context, event);
            json!({"done": "track"})
        }
        "flush" => {
            client.flush();
            json!({"done": "flush"})
        }
        other => panic!("unknown command `{other}`"),
    }
}

/// Splits a word from the context after it.
fn parsed(rest: &str) -> (&str, Context) {
    let (word, text) = rest.split_once(' ').expect("a word and a context");
    (word, context(text))
}

fn context(text: &str) -> Context {
    serde_json::from_str(text).expect("a context")
}
