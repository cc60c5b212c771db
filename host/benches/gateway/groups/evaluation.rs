//! P3: all flags, evaluated for a browser.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::Bench;
use crate::cloud::Cloud;
use crate::goals::Figure;
use crate::http;
use crate::inputs;
use crate::load::Load;
use crate::server::{Server, Setup, env_id, sdk_key};
use crate::stats::{Spread, quantile};

const FLAGS: usize = 1_000;
const CONNECTIONS: usize = 4;
const ENVIRONMENT: &str = "rules";
/// An environment for the part of a request that is not evaluation.
const EMPTY: &str = "nearly-empty";

pub(crate) fn measure(bench: &mut Bench) -> Result<()> {
    let cloud = Cloud::start()?;
    cloud.puts(&sdk_key(ENVIRONMENT), &inputs::of_flags(FLAGS));
    cloud.puts(&sdk_key(EMPTY), &inputs::small());
    let server = Setup::new(&bench.options, &cloud.url(), &[ENVIRONMENT, EMPTY])?.start()?;
    server.settle()?;
    let contexts = inputs::contexts(1_000);
    let size = check_answers(&server, &contexts)?;

    let (rounds, per_round) = bench.options.size((10, 500), (4, 200));
    let mut load = Load::open(server.sdks, CONNECTIONS)?;
    let mut latencies = Vec::new();
    let mut run = |environment: &str, latencies: &mut Vec<f64>| -> Result<f64> {
        let requests: Vec<Vec<u8>> = contexts.iter().map(|it| request(environment, it)).collect();
        let mark = server.process().cpu()?;
        let is_whole = |_: usize, body: &[u8]| {
            ensure!(body.starts_with(b"{\"") && body.ends_with(b"}}"), "an answer is not an object of results");
            Ok(())
        };
        let outcome = load.closed(&requests, per_round, &mut { is_whole })?;
        outcome.must_be_clean()?;
        latencies.extend(outcome.latencies);
        Ok(server.process().cpu_since(&mark)?.as_secs_f64() * 1e6 / per_round as f64)
    };
    let (mut with_rules, mut without) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let figures = (run(ENVIRONMENT, &mut latencies)?, run(EMPTY, &mut Vec::new())?);
        if round > 0 {
            with_rules.push(figures.0);
            without.push(figures.1);
        }
    }
    bench.report.add(
        Figure::EvaluationCpu,
        Spread::of(&with_rules).median,
        format!(
            "{FLAGS} flags, 5 rules of 3 clauses each, answer of {size} B, {} us per request; with 20 flags without rules {} us; \
             time to the answer on {CONNECTIONS} busy connections p50 {:.0} us, p99 {:.0} us",
            Spread::of(&with_rules),
            Spread::of(&without),
            quantile(&latencies, 0.5),
            quantile(&latencies, 0.99),
        ),
    );
    Ok(())
}

fn request(environment: &str, context: &str) -> Vec<u8> {
    http::request("GET", &format!("/sdk/evalx/{}/contexts/{context}", env_id(environment)), &[], b"")
}

/// Checks that evaluation is measured: all flags are evaluated, the same context gets the same results, and rules and
/// rollouts distinguish contexts. Returns the size of a response.
fn check_answers(server: &Server, contexts: &[String]) -> Result<usize> {
    let mut sdk = http::KeepAlive::open(server.sdks)?;
    let mut fetch = |context: &str| -> Result<Vec<u8>> {
        let (status, body) = sdk.send(&request(ENVIRONMENT, context))?;
        ensure!(status == 200, "an evaluation was answered {status}: {}", String::from_utf8_lossy(body));
        Ok(body.to_vec())
    };
    let first = fetch(&contexts[0])?;
    ensure!(fetch(&contexts[0])? == first, "the same context got another answer");
    let mut values: Vec<BTreeSet<String>> = vec![BTreeSet::new(); FLAGS];
    for context in contexts.iter().take(40) {
        let answer: Value = serde_json::from_slice(&fetch(context)?).context("an answer is not JSON")?;
        let results = answer.as_object().context("an answer is not an object")?;
        ensure!(results.len() == FLAGS, "{} flags were answered, not {FLAGS}", results.len());
        for (seen, result) in values.iter_mut().zip(results.values()) {
            seen.insert(result["value"].to_string());
        }
    }
    let varying = values.iter().filter(|it| it.len() > 1).count();
    ensure!(
        varying > FLAGS / 2,
        "only {varying} of {FLAGS} flags distinguish 40 contexts; the flags of the benchmark are wrong"
    );
    Ok(first.len())
}
