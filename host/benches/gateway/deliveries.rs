//! CPU per delivered event, of a gateway and of the floor by turns.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::Instant;

use crate::cloud::Cloud;
use crate::floor::Floor;
use crate::inputs;
use crate::process::Process;
use crate::server::sdk_key;
use crate::stats::Spread;
use crate::swarm::Swarm;
use crate::transcript::chunk;

/// Number of streams that are opened at a time; a storm is another measurement.
pub(crate) const CALMLY: usize = 256;
/// Size of the event that announces a change.
const PATCH_BYTES: usize = 1500;
/// Pause after a round, until all threads are idle.
const REST: Duration = Duration::from_millis(60);

/// A gateway whose deliveries are compared with the floor.
pub(crate) struct Comparison<'a> {
    pub(crate) cloud: &'a Cloud,
    pub(crate) environment: &'a str,
    pub(crate) process: Process,
    /// Time in which a write to one stream is certainly done.
    pub(crate) per_stream: Duration,
}

impl Comparison<'_> {
    /// Delivers changes to both, with late and with early readers. The streams of the gateway are open and have received
    /// one event; those of the floor are opened here.
    pub(crate) fn run(
        &self,
        swarm: &mut Swarm,
        floor: &mut Floor,
        floor_swarm: &mut Swarm,
        floor_count: usize,
        rounds: usize,
    ) -> Result<[Deliveries; 2]> {
        let count = swarm.len();
        floor.greet(&[swarm.head(), &chunk(swarm.transcript().raw(0))].concat())?;
        floor_swarm.open(floor_count, CALMLY, 1)?;
        let mut sides = [Readers::Late, Readers::Early].map(|readers| (readers, Deliveries::default()));
        let mut received = 1;
        // The first round of each is a warm-up and is not counted.
        for round in 0..=rounds {
            for (readers, all) in &mut sides {
                let (used, took) = self.deliver(swarm, received, *readers)?;
                let event = swarm.transcript().raw(received);
                let (process, mut sent) = (floor.process(), Ok(()));
                let publish = || sent = floor.send(&chunk(event));
                let (least, _) = self.timed(process, floor_swarm, received, *readers, publish)?;
                sent?;
                ensure!(floor_swarm.transcript().raw(received) == event, "the floor wrote other bytes");
                received += 1;
                if round > 0 {
                    all.gateway.push(used / count as f64);
                    all.floor.push(least / floor_count as f64);
                    all.millis.push(took.as_secs_f64() * 1e3);
                }
            }
        }
        let [(_, late), (_, early)] = sides;
        Ok([late, early])
    }

    /// Changes a flag and waits until all streams of the gateway have received it.
    pub(crate) fn deliver(&self, swarm: &mut Swarm, received: usize, readers: Readers) -> Result<(f64, Duration)> {
        let flag = inputs::patch(received, PATCH_BYTES);
        let publish = || self.cloud.patches(&sdk_key(self.environment), &flag);
        let figures = self.timed(self.process, swarm, received, readers, publish)?;
        swarm.transcript().expect(received, "patch", &inputs::patch_event(&flag))?;
        Ok(figures)
    }

    /// Publishes one event and waits until all streams have received it; returns microseconds of CPU, and the time.
    fn timed(
        &self,
        process: Process,
        swarm: &mut Swarm,
        received: usize,
        readers: Readers,
        publish: impl FnOnce(),
    ) -> Result<(f64, Duration)> {
        let mark = process.cpu()?;
        let start = Instant::now();
        publish();
        if readers == Readers::Late {
            // Long enough in any case; a late server finds awake readers, and pays for it.
            std::thread::sleep(REST + self.per_stream * u32::try_from(swarm.len())?);
        }
        swarm.wait_for_events(received + 1)?;
        let took = start.elapsed();
        std::thread::sleep(REST);
        Ok((process.cpu_since(&mark)?.as_secs_f64() * 1e6, took))
    }
}

/// When the clients read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readers {
    /// After everything has been written. On loopback a writer wakes the reader itself, which costs as much as the
    /// write and happens or not depending on who is faster; remote readers are woken by their own machine.
    Late,
    /// At once.
    Early,
}

/// Microseconds per delivery, and milliseconds until all streams received the event.
#[derive(Default)]
pub(crate) struct Deliveries {
    pub(crate) gateway: Vec<f64>,
    pub(crate) floor: Vec<f64>,
    pub(crate) millis: Vec<f64>,
}

impl Deliveries {
    /// Returns the quotients of gateway and floor, by round.
    pub(crate) fn ratios(&self) -> Vec<f64> {
        self.gateway.iter().zip(&self.floor).map(|(gateway, floor)| gateway / floor).collect()
    }
}

impl std::fmt::Display for Deliveries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [gateway, floor, ratio] = [&self.gateway, &self.floor, &self.ratios()].map(|it| Spread::of(it));
        write!(f, "gateway {gateway} us, floor {floor} us, ratio {ratio}")
    }
}
