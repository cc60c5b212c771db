//! Writes lines on a dedicated thread, through a queue of bounded size.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::time::Instant;
use yardarm_core::Supervisor;
use yardarm_core::supervisor::fault_point;

/// Capacity of the queue, in bytes; a line that does not fit is dropped and counted. As much again may be in the
/// process of being written.
const CAPACITY: usize = 4 << 20;
/// A buffer that grew beyond this size is freed once it is written, in bytes.
const KEPT: usize = 256 << 10;
/// Pause before another attempt on a full descriptor that another process has made non-blocking.
const RETRY: Duration = Duration::from_millis(20);

/// The output that lines are written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Descriptor 1.
    StandardOutput,
    /// Descriptor 2.
    StandardError,
}

/// Handle of the writing thread. Cheap to clone.
#[derive(Clone)]
pub struct LineWriter(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    /// Notified when lines were added, and when everything is written.
    changed: Condvar,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    lines: u64,
    /// Lines that the thread has taken from the queue and not written yet.
    under_way: u64,
}

impl LineWriter {
    /// Starts the thread, which is named `task` in logs and metrics. `returned` is called with the number of dropped
    /// lines as soon as lines can be written again.
    ///
    /// # Errors
    /// When the descriptor does not exist, or the thread cannot be started.
    pub fn start(output: Output, task: &'static str, returned: impl Fn(u64) + Send + 'static) -> std::io::Result<Self> {
        // A duplicate of the descriptor, because the standard library would hold its lock while a write waits for a
        // reader.
        let mut file = File::from(match output {
            Output::StandardOutput => std::io::stdout().as_fd().try_clone_to_owned()?,
            Output::StandardError => std::io::stderr().as_fd().try_clone_to_owned()?,
        });
        let writer = Self::nowhere();
        let shared = Arc::clone(&writer.0);
        let mut announced = 0;
        Supervisor::global().thread(task, "yardarm-log", move || shared.run(&mut file, &mut announced, &returned))?;
        Ok(writer)
    }

    /// Creates a writer without a thread, which drops every line beyond the capacity of its queue.
    #[must_use]
    pub fn nowhere() -> Self {
        Self(Arc::new(Shared { queue: Mutex::default(), changed: Condvar::new(), dropped: AtomicU64::new(0) }))
    }

    /// Adds a line, including its line end. Never waits.
    pub fn push(&self, line: &[u8]) {
        let mut queue = self.0.lock();
        if queue.bytes.len() + line.len() > CAPACITY {
            drop(queue);
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let was_empty = queue.bytes.is_empty();
        queue.bytes.extend_from_slice(line);
        queue.lines += 1;
        drop(queue);
        if was_empty {
            self.0.changed.notify_all();
        }
    }

    /// Returns the number of lines that were dropped since the start.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Waits until everything is written, for at most `limit`; returns whether it was.
    #[must_use]
    pub fn flush(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut queue = self.0.lock();
        while !queue.bytes.is_empty() || queue.under_way > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            self.0.changed.wait_for(&mut queue, left);
        }
        true
    }
}

impl Shared {
    /// Writes lines for as long as the process runs. Called again after a panic.
    fn run(&self, output: &mut impl Write, announced: &mut u64, returned: &impl Fn(u64)) {
        let lost = std::mem::take(&mut self.lock().under_way);
        self.dropped.fetch_add(lost, Ordering::Relaxed);
        loop {
            let (batch, lines) = self.take();
            fault_point("log writer");
            let is_written = write(output, &batch).is_ok();
            self.lock().under_way = 0;
            self.changed.notify_all();
            if !is_written {
                self.dropped.fetch_add(lines, Ordering::Relaxed);
                continue;
            }
            let dropped = self.dropped.load(Ordering::Relaxed);
            // If the queue is full again, this record would be dropped too.
            if dropped > *announced && self.lock().bytes.len() < CAPACITY / 2 {
                returned(dropped - *announced);
                *announced = dropped;
            }
        }
    }

    /// Waits for lines and takes all of them.
    fn take(&self) -> (Vec<u8>, u64) {
        let mut queue = self.lock();
        while queue.bytes.is_empty() {
            self.changed.wait(&mut queue);
        }
        queue.under_way = std::mem::take(&mut queue.lines);
        let room = queue.bytes.len().min(KEPT);
        (std::mem::replace(&mut queue.bytes, Vec::with_capacity(room)), queue.under_way)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock()
    }
}

/// Writes everything, and waits as long as the reader takes.
fn write(output: &mut impl Write, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match output.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => (),
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(RETRY),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Accepts nothing until it is opened, and fails when it is closed.
    struct Pipe {
        gate: mpsc::Receiver<bool>,
        written: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.gate.recv() != Ok(true) {
                return Err(ErrorKind::BrokenPipe.into());
            }
            let _ = self.written.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn start() -> (LineWriter, mpsc::Sender<bool>, mpsc::Receiver<Vec<u8>>, mpsc::Receiver<u64>) {
        let writer = LineWriter::nowhere();
        let (open, gate) = mpsc::channel();
        let (written, lines) = mpsc::channel();
        let (returned, announcements) = mpsc::channel();
        let shared = Arc::clone(&writer.0);
        std::thread::spawn(move || {
            let returned = |lines| {
                let _ = returned.send(lines);
            };
            shared.run(&mut Pipe { gate, written }, &mut 0, &returned);
        });
        (writer, open, lines, announcements)
    }

    const TEST_TIMEOUT: Duration = Duration::from_secs(20);

    #[test]
    fn a_stalled_reader_loses_lines_and_never_blocks() {
        let (writer, open, written, announcements) = start();
        let line = vec![b'x'; 1 << 20];
        let began = Instant::now();
        for _ in 0..20 {
            writer.push(&line);
        }
        assert!(!writer.flush(Duration::from_millis(10)), "nothing is read");
        assert!(began.elapsed() < TEST_TIMEOUT);
        let dropped = writer.dropped();
        assert!((11..=16).contains(&dropped), "{dropped} of 20 MiB, and at most 8 fit");
        for _ in 0..4 {
            let _ = open.send(true);
        }
        assert!(writer.flush(TEST_TIMEOUT));
        let bytes: usize = written.try_iter().map(|it| it.len()).sum();
        assert_eq!(bytes, (20 - usize::try_from(dropped).unwrap()) << 20);
        assert_eq!(announcements.recv_timeout(TEST_TIMEOUT), Ok(dropped));
        writer.push(b"after\n");
        assert_eq!(written.recv_timeout(TEST_TIMEOUT).unwrap(), b"after\n");
        assert!(announcements.try_recv().is_err(), "announced once");
    }

    #[test]
    fn a_closed_output_is_not_fatal() {
        let (writer, open, written, announcements) = start();
        open.send(false).unwrap();
        writer.push(b"lost\n");
        assert!(writer.flush(TEST_TIMEOUT), "there is nothing to wait for");
        while writer.dropped() == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        open.send(true).unwrap();
        writer.push(b"kept\n");
        assert_eq!(written.recv_timeout(TEST_TIMEOUT).unwrap(), b"kept\n");
        assert_eq!(announcements.recv_timeout(TEST_TIMEOUT), Ok(1));
    }
}
