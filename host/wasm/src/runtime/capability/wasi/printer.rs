//! Standard output and error of guests, whose lines are written to the plugin's log.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::runtime::capability::log;
use crate::runtime::guest::PluginContext;
use crate::runtime::interface::v0_1::host::log::Level;

/// Maximum number of bytes that one instance may print to each of the two, over all its streams; the rest is discarded.
const MOST_PRINTED: usize = 64 * 1024;

/// Standard output or error of one instance.
#[derive(Clone)]
pub(super) struct Printer {
    plugin: Arc<PluginContext>,
    level: Level,
    printed: Arc<AtomicUsize>,
}

/// A stream of one instance: collects lines and logs them.
struct Lines {
    printer: Printer,
    line: Vec<u8>,
}

impl Printer {
    pub(super) fn new(plugin: &Arc<PluginContext>, level: Level) -> Self {
        Self { plugin: Arc::clone(plugin), level, printed: Arc::default() }
    }

    fn lines(&self) -> Lines {
        Lines { printer: self.clone(), line: Vec::new() }
    }
}

impl IsTerminal for Printer {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Printer {
    /// Returns a stream of WASI 0.3.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.lines())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.lines())
    }
}

impl Lines {
    fn add(&mut self, bytes: &[u8]) {
        let room = MOST_PRINTED.saturating_sub(self.printer.printed.load(Ordering::Relaxed));
        let bytes = &bytes[..bytes.len().min(room)];
        self.printer.printed.fetch_add(bytes.len(), Ordering::Relaxed);
        for byte in bytes {
            if *byte == b'\n' {
                self.print();
            } else {
                self.line.push(*byte);
            }
        }
    }

    fn print(&mut self) {
        let text = String::from_utf8_lossy(&self.line).into_owned();
        self.line.clear();
        log::write(&self.printer.plugin, "stdio", self.printer.level, &text);
    }
}

impl OutputStream for Lines {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.add(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(4096)
    }
}

#[async_trait::async_trait]
impl Pollable for Lines {
    async fn ready(&mut self) {}
}

/// Never waits, so that a guest whose exports are plain functions can write.
impl AsyncWrite for Lines {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.add(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if !self.line.is_empty() {
            self.print();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::capability::fingerprint::Fingerprints;
    use crate::runtime::cpu_share::{CpuLimits, CpuShares};
    use crate::services::PluginServices;
    use crate::vocabulary::{CalledVersion, Grants};

    #[test]
    fn output_of_an_instance_is_bounded_over_all_its_streams() {
        let plugin = PluginContext::new(
            "zoo".into(),
            CalledVersion { version: "1.0.0".into(), generation: 1 },
            Grants::default(),
            &serde_json::Map::new(),
            Arc::new(Fingerprints::new()),
            (Arc::default(), CpuShares::new(CpuLimits::default()).of(&"zoo".into()), PluginServices::default()),
        );
        let printer = Printer::new(&Arc::new(plugin), Level::Info);
        let (mut first, mut second) = (printer.lines(), printer.lines());
        for _ in 0..15 {
            first.write(Bytes::from(vec![b'x'; 4096])).unwrap();
        }
        second.add(&[b'y'; 100_000]);
        assert_eq!((first.line.len(), second.line.len()), (15 * 4096, 4096));
        first.write(Bytes::from_static(b"\n")).unwrap();
        assert_eq!(printer.printed.load(Ordering::Relaxed), MOST_PRINTED);
        assert_eq!(first.line.len(), 15 * 4096, "the end of the line is beyond the limit");
    }
}
