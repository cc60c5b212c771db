//! `server.compression`: responses are compressed for clients that accept it, where that is enabled; streams never are.

use std::io::Read;

use serde_json::Value;
use yardarm_testkit::{Answer, Call};

use crate::flags::{by_key, data, flag, put};
use crate::running::{Running, SDK_KEY, Setup};

fn flags() -> Vec<Value> {
    (0..20).map(|number| flag(&format!("flag-{number}"), 1)).collect()
}

async fn polled(gateway: &Running, encoding: Option<&str>) -> Answer {
    let call = Call::get("/sdk/flags").key(SDK_KEY);
    let call = encoding.iter().fold(call, |call, encoding| call.header("Accept-Encoding", encoding));
    gateway.answers(&call).await
}

#[tokio::test]
async fn gzip_is_sent_only_to_clients_that_accept_it() {
    let gateway = Setup::with(data(flags(), [])).set("server.compression", true).start().await;
    let plain = polled(&gateway, None).await;
    assert_eq!((plain.header("content-encoding"), plain.json()), (None, by_key(flags())));
    let packed = polled(&gateway, Some("gzip, deflate")).await;
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert!(packed.body.len() * 3 < plain.body.len(), "{} of {} bytes", packed.body.len(), plain.body.len());
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&packed.body[..]).read_to_end(&mut unpacked).expect("gzip");
    assert_eq!(unpacked, plain.body);

    let mut sdk = gateway.opens_with(&Call::get("/all").key(SDK_KEY).header("Accept-Encoding", "gzip")).await;
    assert_eq!(sdk.client().head().header("content-encoding"), None);
    sdk.receives("put", put(data(flags(), []))).await;
}

#[tokio::test]
async fn compression_is_disabled_by_default() {
    let gateway = Setup::with(data(flags(), [])).start().await;
    let answer = polled(&gateway, Some("gzip")).await;
    assert_eq!((answer.header("content-encoding"), answer.header("vary")), (None, None));
}
