//! P16: a request that does nothing, compared with a bare epoll loop that answers the same number of bytes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::Bench;
use crate::cloud::Cloud;
use crate::floor::Floor;
use crate::goals::Figure;
use crate::http;
use crate::inputs;
use crate::load::Load;
use crate::process::Process;
use crate::server::{Setup, sdk_key};
use crate::stats::Spread;

const ENVIRONMENT: &str = "request";
/// Number of busy connections.
const CONNECTIONS: usize = 4;

pub(crate) fn measure(bench: &mut Bench) -> Result<()> {
    let cloud = Cloud::start()?;
    cloud.puts(&sdk_key(ENVIRONMENT), &inputs::small());
    let server = Setup::new(&bench.options, &cloud.url(), &[ENVIRONMENT])?.start()?;
    server.settle()?;
    let request = http::request("GET", "/status", &[], b"");
    let answer = answer(server.sdks, &request)?;
    let mut floor = Floor::start()?;
    floor.answer(&answer)?;

    let per_round = bench.options.size(20_000, 4_000);
    let mut loads = [(server.process(), server.sdks), (floor.process(), floor.address)]
        .map(|(process, address)| Load::open(address, CONNECTIONS).map(|load| (process, load)));
    let [Ok(gateway), Ok(bare)] = &mut loads else { anyhow::bail!("no connection to the gateway or the floor") };
    let (mut used, mut least, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=bench.options.size(10, 3) {
        let figures = (run(gateway, &request, per_round)?, run(bare, &request, per_round)?);
        // The first round is a warm-up.
        if round > 0 {
            used.push(figures.0);
            least.push(figures.1);
            ratios.push(figures.0 / figures.1);
        }
    }
    bench.report.add(
        Figure::BareRequest,
        Spread::of(&ratios).median,
        format!(
            "answer of {} B on {CONNECTIONS} busy connections; gateway {} us, floor {} us, ratio {}",
            answer.len(),
            Spread::of(&used),
            Spread::of(&least),
            Spread::of(&ratios),
        ),
    );
    Ok(())
}

/// Sends requests as fast as they are answered; returns microseconds of CPU per request.
fn run((process, load): &mut (Process, Load), request: &[u8], count: usize) -> Result<f64> {
    let mark = process.cpu()?;
    let outcome = load.closed(&[request.to_vec()], count, &mut |_, _| Ok(()))?;
    outcome.must_be_clean()?;
    Ok(process.cpu_since(&mark)?.as_secs_f64() * 1e6 / count as f64)
}

/// Returns a complete response as it arrives.
fn answer(address: SocketAddr, request: &[u8]) -> Result<Vec<u8>> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    socket.write_all(request)?;
    let (mut received, mut piece) = (Vec::new(), [0; 16 << 10]);
    loop {
        let count = socket.read(&mut piece)?;
        ensure!(count > 0, "the connection was closed before the response");
        received.extend_from_slice(&piece[..count]);
        if let Some(answer) = http::parse(&received)? {
            ensure!(answer.status == 200, "`/status` was answered {}", answer.status);
            received.truncate(answer.body.end);
            return Ok(received);
        }
    }
}
