//! P18: how much anonymous callers at their worst affect a server's requests.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::Bench;
use crate::goals::Figure;
use crate::http::{self, KeepAlive};
use crate::inputs;
use crate::server::{Server, Setup, env_id, sdk_key};
use crate::stats::{Spread, quantile};

const ENVIRONMENT: &str = "bombs";
/// Callers that know only what is public in a web page.
const ATTACKERS: usize = 4;
const ATTACK_PAUSE: Duration = Duration::from_secs(1);
/// Bytes of a post after decompression: 25 MB, the limit for most relays.
const INFLATED: usize = 25_000_000;
/// Bytes of the key of a context, which every rollout hashes.
const LONG_KEY: usize = 4_800_000;
const PACE: Duration = Duration::from_millis(4);
/// Duration of one series of honest requests.
const WINDOW: Duration = Duration::from_secs(3);

/// A kind of anonymous request, and the measurements beside it.
struct Kind {
    name: &'static str,
    request: Vec<u8>,
    /// The p99 of honest requests in each round, in milliseconds.
    tails: Vec<f64>,
    /// Requests of this kind that were not answered 503.
    taken: usize,
}

impl Kind {
    fn new(name: &'static str, request: Vec<u8>) -> Self {
        Self { name, request, tails: Vec::new(), taken: 0 }
    }
}

/// P18.
pub(crate) fn measure(bench: &mut Bench) -> Result<()> {
    let upstream = TcpListener::bind("127.0.0.1:0").context("no free port")?;
    let url = format!("http://{}", upstream.local_addr()?);
    std::thread::spawn(move || {
        for stream in upstream.incoming().map_while(Result::ok) {
            std::thread::spawn(move || answer(stream));
        }
    });
    let server = Setup::new(&bench.options, &url, &[ENVIRONMENT])?.with("send_events = true").start()?;
    server.settle()?;
    let mut kinds = [
        Kind::new("`0,`", bomb("0,")?),
        Kind::new("`{},`", bomb("{},")?),
        Kind::new("events", bomb(r#"{"kind":"custom","key":"k"},"#)?),
        Kind::new("long keys", long_key()),
    ];
    let mut quiet = Vec::new();
    // Alternating, because the machine changes with time; medians, because its other users vary.
    for _ in 0..bench.options.size(7, 1) {
        quiet.push(p99(&honest(&server)?));
        for kind in &mut kinds {
            let (tail, taken) = under_attack(&server, &kind.request)?;
            kind.tails.push(tail);
            kind.taken += taken;
        }
    }
    let quiet = Spread::of(&quiet);
    let (mut worst, mut notes) = (0.0_f64, vec![format!("quiet {quiet} ms")]);
    for Kind { name, taken, tails, .. } in &kinds {
        ensure!(*taken > 0, "no request with {name} was taken:\n{}", server.last_words());
        let tail = Spread::of(tails);
        notes.push(format!("{name} {tail} ms, {taken} taken"));
        worst = worst.max(tail.median / quiet.median);
    }
    bench.report.add(Figure::BombTail, worst, notes.join("; "));
    Ok(())
}

/// Returns the p99 of honest requests under attack, and the number of accepted requests of the attackers.
fn under_attack(server: &Server, request: &[u8]) -> Result<(f64, usize)> {
    let (is_over, taken) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let attackers: Vec<_> =
            (0..ATTACKERS).map(|_| scope.spawn(|| attack(server.sdks, request, &is_over, &taken))).collect();
        std::thread::sleep(ATTACK_PAUSE);
        let times = honest(server);
        is_over.store(true, Ordering::Relaxed);
        for attacker in attackers {
            attacker.join().map_err(|_| anyhow::anyhow!("an attacker panicked"))??;
        }
        Ok((p99(&times?), taken.load(Ordering::Relaxed)))
    })
}

fn p99(milliseconds: &[f64]) -> f64 {
    quantile(milliseconds, 0.99)
}

/// Returns a compressed array that repeats this element.
fn bomb(element: &str) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    write!(encoder, "[{}0]", element.repeat(INFLATED / element.len() - 1))?;
    let headers =
        [("Content-Type", "application/json"), ("Content-Encoding", "gzip"), ("X-LaunchDarkly-Event-Schema", "4")];
    Ok(http::request("POST", &format!("/events/bulk/{}", env_id(ENVIRONMENT)), &headers, &encoder.finish()?))
}

/// Returns a request to evaluate flags for a context with a long key.
fn long_key() -> Vec<u8> {
    let context = json!({"kind": "user", "key": "k".repeat(LONG_KEY)}).to_string();
    let path = format!("/sdk/evalx/{}/context", env_id(ENVIRONMENT));
    http::request("REPORT", &path, &[("Content-Type", "application/json")], context.as_bytes())
}

/// Returns a few flags with rollouts.
fn flags() -> Value {
    let mut data = inputs::small();
    for flag in data["flags"].as_object_mut().into_iter().flat_map(|it| it.values_mut()) {
        let share = |variation| json!({"variation": variation, "weight": 50_000});
        flag["fallthrough"] = json!({"rollout": {"variations": [share(0), share(1)]}});
    }
    data
}

fn attack(address: std::net::SocketAddr, request: &[u8], is_over: &AtomicBool, taken: &AtomicUsize) -> Result<()> {
    while !is_over.load(Ordering::Relaxed) {
        let (status, _) = KeepAlive::open(address)?.send(request)?;
        ensure!(matches!(status, 200 | 202 | 503), "a large request was answered {status}");
        taken.fetch_add(usize::from(status != 503), Ordering::Relaxed);
        std::thread::sleep(ATTACK_PAUSE);
    }
    Ok(())
}

/// Measures requests with an SDK key in milliseconds, alternately for a flag and with an event.
fn honest(server: &Server) -> Result<Vec<f64>> {
    let key = sdk_key(ENVIRONMENT);
    let headers =
        [("Authorization", &*key), ("Content-Type", "application/json"), ("X-LaunchDarkly-Event-Schema", "4")];
    let event = serde_json::to_vec(&inputs::events(1, 200))?;
    let requests = [
        (200, http::request("GET", "/sdk/flags", &headers[..1], b"")),
        (202, http::request("POST", "/bulk", &headers, &event)),
    ];
    let mut client = KeepAlive::open(server.sdks)?;
    let (start, mut times) = (Instant::now(), Vec::new());
    while start.elapsed() < WINDOW {
        let due = Instant::now() + PACE;
        let (expected, request) = &requests[times.len() % 2];
        let sent = Instant::now();
        let (status, _) = client.send(request)?;
        times.push(sent.elapsed().as_secs_f64() * 1e3);
        ensure!(status == *expected, "an honest request was answered {status}:\n{}", server.last_words());
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(times)
}

/// Runs an upstream that has a few flags and accepts every post without reading it.
fn answer(mut stream: TcpStream) -> Result<()> {
    let mut buffer = Vec::new();
    loop {
        let Some(end) = http::head_end(&buffer) else {
            read_more(&mut stream, &mut buffer)?;
            continue;
        };
        let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
        if head.starts_with("get /all ") {
            let data = inputs::put_event(&flags());
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nevent: put\ndata: {data}\n\n")?;
            // Until the gateway closes the connection.
            loop {
                read_more(&mut stream, &mut buffer)?;
            }
        }
        let length: usize =
            head.lines().find_map(|it| it.strip_prefix("content-length: ")).map_or(Ok(0), |it| it.trim().parse())?;
        while buffer.len() < end + length {
            read_more(&mut stream, &mut buffer)?;
        }
        buffer.drain(..end + length);
        stream.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")?;
    }
}

fn read_more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<()> {
    let mut piece = [0; 16 << 10];
    let count = stream.read(&mut piece)?;
    ensure!(count > 0, "the other side hung up");
    buffer.extend_from_slice(&piece[..count]);
    Ok(())
}
