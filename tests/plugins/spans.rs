//! The span of a call: at the level `debug` the log has a line per call, with what the call and its request are.

use serde_json::Value;
use yardarm_testkit::guests::{self, Guest, GuestHook};
use yardarm_testkit::{Call, within};

use super::folder::{Prepared, setup};
use super::put;
use crate::running::SDK_KEY;

#[tokio::test]
async fn a_call_has_a_span_in_that_of_its_request() {
    for (level, is_traced) in [("yardarm_wasm=debug,info", true), ("info", false)] {
        let prepared = Prepared::new(setup().set("log.format", "json").set("log.level", level)).await;
        let gate = Guest::new("gate").version("1.2.3").hook(GuestHook::RequestAuth, guests::ALLOW).component();
        put(&prepared.plugins, "gate.wasm", gate.expect("a component"));
        let program = prepared.start().await;
        assert_eq!(program.answers(&Call::get("/sdk/flags").key(SDK_KEY)).await.status, 200);
        let line = |message: &str| {
            let lines = program.log().into_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
            lines.into_iter().find(|line| line["message"] == message && line["route"] == "server.poll.flags")
        };
        if !is_traced {
            assert!(line("plugin called").is_none());
            continue;
        }
        let line = within("the line of the call", async {
            loop {
                if let Some(line) = line("plugin called") {
                    return line;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        })
        .await;
        for (field, expected) in [
            ("plugin", "gate"),
            ("version", "1.2.3"),
            ("hook", "request-auth"),
            ("outcome", "allow"),
            ("environment", "launchdarkly/main"),
            ("sdk", "server"),
        ] {
            assert_eq!(line[field], expected, "{field}: {line}");
        }
        assert_eq!((&line["bytes_out"], &line["bytes_in"], &line["generation"]), (&6.into(), &0.into(), &1.into()));
        assert!(line["us"].as_u64() >= line["cpu_us"].as_u64() && line["id"].is_string(), "{line}");
    }
}
