//! P17: the full data from upstream, in small pieces.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::Instant;

use crate::Bench;
use crate::goals::Figure;
use crate::http::{self, KeepAlive};
use crate::inputs;
use crate::server::{Server, Setup, sdk_key};
use crate::stats::Spread;

const ENVIRONMENT: &str = "put";
/// Payload of a TCP segment over Ethernet.
const PIECE: usize = 1460;
/// A flag in every `put`, with the number of the round as its version.
const MARKER: &str = "marker";
const LONGEST: Duration = Duration::from_secs(120);

/// P17.
pub(crate) fn measure(bench: &mut Bench) -> Result<()> {
    let small = rounds(bench, 8 << 20)?;
    let large = rounds(bench, 64 << 20)?;
    let times = Spread::of(&small.seconds.iter().map(|it| it * 1e3).collect::<Vec<_>>());
    bench.report.add(
        Figure::PutTime,
        times.median,
        format!(
            "{times} ms, CPU {} ms; parsing the same text with `serde_json` {} ms",
            small.cpu_ms(),
            small.parsed_ms()
        ),
    );
    let (one, other) = (small.median(), large.median());
    bench.report.add(
        Figure::PutGrowth,
        other / (8.0 * one),
        format!("64 MiB {} s, CPU {} ms", Spread::of(&large.seconds), large.cpu_ms()),
    );
    Ok(())
}

/// The same `put` several times over one stream.
struct Rounds {
    seconds: Vec<f64>,
    cpu: Vec<f64>,
    /// Time for parsing alone, on one core of this machine.
    parsed: Vec<f64>,
}

impl Rounds {
    fn median(&self) -> f64 {
        Spread::of(&self.seconds).median
    }

    fn cpu_ms(&self) -> Spread {
        Spread::of(&self.cpu.iter().map(|it| it * 1e3).collect::<Vec<_>>())
    }

    fn parsed_ms(&self) -> Spread {
        Spread::of(&self.parsed.iter().map(|it| it * 1e3).collect::<Vec<_>>())
    }
}

fn rounds(bench: &Bench, size: usize) -> Result<Rounds> {
    let upstream = TcpListener::bind("127.0.0.1:0").context("no free port")?;
    let url = format!("http://{}", upstream.local_addr()?);
    let server = Setup::new(&bench.options, &url, &[ENVIRONMENT])?.start()?;
    let mut stream = accept(&upstream)?;
    let mut data = inputs::small();
    stream.write_all(put(&mut data, 0).as_bytes())?;
    wait_for_version(&server, 0)?;
    data = inputs::of_size(size);
    let mut rounds = Rounds { seconds: Vec::new(), cpu: Vec::new(), parsed: Vec::new() };
    for version in 1..=bench.options.size(5, 2) {
        let event = put(&mut data, version);
        let mark = server.process().cpu()?;
        let start = Instant::now();
        let writer = std::thread::spawn({
            let (mut stream, event) = (stream.try_clone()?, event.clone());
            move || event.as_bytes().chunks(PIECE).try_for_each(|piece| stream.write_all(piece))
        });
        wait_for_version(&server, version)?;
        rounds.seconds.push(start.elapsed().as_secs_f64());
        writer.join().map_err(|_| anyhow::anyhow!("the upstream panicked"))??;
        std::thread::sleep(Duration::from_millis(500));
        rounds.cpu.push(server.process().cpu_since(&mark)?.as_secs_f64());
        let start = Instant::now();
        let text = event.lines().nth(1).and_then(|it| it.strip_prefix("data: ")).context("no data in the event")?;
        let parsed: serde_json::Value = serde_json::from_str(text)?;
        rounds.parsed.push(start.elapsed().as_secs_f64());
        ensure!(parsed["data"]["flags"][MARKER]["version"] == version, "the event lacks its marker");
    }
    Ok(rounds)
}

/// Returns the event with the full data and a marker of this version.
fn put(data: &mut serde_json::Value, version: usize) -> String {
    data["flags"][MARKER] = inputs::plain(MARKER, version);
    format!("event: put\ndata: {}\n\n", inputs::put_event(data))
}

/// Accepts the gateway's stream and sends the response head.
fn accept(upstream: &TcpListener) -> Result<TcpStream> {
    let (mut stream, _) = upstream.accept()?;
    stream.set_nodelay(true)?;
    let mut head = Vec::new();
    while http::head_end(&head).is_none() {
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece)?;
        ensure!(count > 0, "the gateway hung up before its request was complete");
        head.extend_from_slice(&piece[..count]);
    }
    ensure!(head.starts_with(b"GET /all "), "not a stream: {}", String::from_utf8_lossy(&head));
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")?;
    Ok(stream)
}

/// Polls the marker until SDKs receive this version.
fn wait_for_version(server: &Server, version: usize) -> Result<()> {
    let key = sdk_key(ENVIRONMENT);
    let request = http::request("GET", &format!("/sdk/flags/{MARKER}"), &[("Authorization", &key)], b"");
    let mut client = KeepAlive::open(server.sdks)?;
    let start = Instant::now();
    loop {
        let (status, body) = client.send(&request)?;
        if status == 200 && serde_json::from_slice::<serde_json::Value>(body)?["version"] == version {
            return Ok(());
        }
        ensure!(start.elapsed() < LONGEST, "the data was not served within {LONGEST:?}:\n{}", server.last_words());
        std::thread::sleep(Duration::from_millis(2));
    }
}
