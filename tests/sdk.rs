//! An SDK that reads a stream: `sdk.receives("patch", …)`.

use serde_json::Value;
use yardarm_testkit::{Call, SseClient, StreamItem, within};

/// The reading side of an SDK.
pub(crate) struct Sdk {
    client: SseClient,
    name: String,
}

impl Sdk {
    pub(crate) fn new(client: SseClient, call: &Call) -> Self {
        assert_eq!(client.head().status, 200, "{call} opens a stream");
        Self { client, name: call.to_string() }
    }

    /// Returns the stream itself.
    pub(crate) fn client(&self) -> &SseClient {
        &self.client
    }

    /// Returns the stream itself.
    pub(crate) fn into_client(self) -> SseClient {
        self.client
    }

    /// Returns the next item that is not a heartbeat.
    pub(crate) async fn next(&mut self) -> StreamItem {
        loop {
            match self.client.next().await {
                StreamItem::Comment(_) => (),
                received => return received,
            }
        }
    }

    /// Returns the data of the next event, which must have this name.
    pub(crate) async fn receives_event(&mut self, expected: &str) -> Value {
        let name = self.name.clone();
        let received = within(&format!("`{expected}` on {name}"), self.next()).await;
        match received {
            StreamItem::Event { name, data } if name == expected => {
                serde_json::from_str(&data).unwrap_or_else(|error| panic!("{error} in {data:?}"))
            }
            other => panic!("{name}: expected `{expected}`, received {other:?}"),
        }
    }

    /// Expects an event with this name and this data.
    pub(crate) async fn receives(&mut self, name: &str, data: Value) {
        let received = self.receives_event(name).await;
        assert_eq!(received, data, "`{name}` on {}", self.name);
    }

    /// Reads until an event contains this text; the stream must stay open.
    pub(crate) async fn receives_text(&mut self, text: &str) {
        within(&format!("`{text}` on {}", self.name.clone()), async {
            loop {
                match self.next().await {
                    StreamItem::Event { data, .. } if data.contains(text) => return,
                    StreamItem::Event { .. } => (),
                    other => panic!("waited for `{text}`, received {other:?}"),
                }
            }
        })
        .await;
    }

    /// Expects a `ping`, whose data is one space.
    pub(crate) async fn receives_ping(&mut self) {
        let received = within(&format!("`ping` on {}", self.name), self.next()).await;
        assert_eq!(received, StreamItem::Event { name: "ping".to_owned(), data: " ".to_owned() }, "on {}", self.name);
    }

    /// Expects this many heartbeats and nothing else.
    pub(crate) async fn receives_only_heartbeats(&mut self, count: usize) {
        for _ in 0..count {
            assert_eq!(self.client.next().await, StreamItem::Comment(String::new()), "on {}", self.name);
        }
    }

    /// Expects the regular end of the stream.
    pub(crate) async fn receives_end(&mut self) {
        let received = within(&format!("the end of {}", self.name), self.next()).await;
        assert_eq!(received, StreamItem::End, "on {}", self.name);
    }
}
