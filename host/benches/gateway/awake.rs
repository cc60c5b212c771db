//! Keeps the processors awake while short times are measured.
//!
//! A processor that sleeps between two requests takes longer to wake up than a plugin takes to answer, and on a virtual
//! machine it resumes with cold caches. Threads that spin at the lowest priority prevent this and yield to all others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Processors stay awake until this is dropped.
pub(crate) struct Awake {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Awake {
    pub(crate) fn start() -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let spin = |_| {
            let is_over = Arc::clone(&is_over);
            std::thread::spawn(move || {
                // On Linux this is the niceness of the thread. Without it, spinning would disturb more than it helps.
                if rustix::process::nice(19).is_ok() {
                    while !is_over.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                }
            })
        };
        let threads = (0..cores).map(spin).collect();
        Self { is_over, threads }
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // Spinning does not panic.
            let _ = thread.join();
        }
    }
}
