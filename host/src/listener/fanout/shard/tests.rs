use std::io::Read;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc, watch};
use yardarm_core::EnvironmentLabel;
use yardarm_core::change_log::{Cursor, UpdateSource, Version};
use yardarm_core::hooks::RequestFacts;
use yardarm_core::registry::{EndReason, StreamRegistry};
use yardarm_core::sse::Frame;
use yardarm_core::stream::OpenStream;

use super::*;
use crate::listener::fanout::connection::LAST_CHUNK;
use crate::listener::fanout::{AfterStream, Fanout};

/// A source that never yields data.
struct Silence(watch::Sender<Version>);

impl UpdateSource for Silence {
    fn next(&self, _: &mut Cursor) -> Option<Frame> {
        None
    }

    fn versions(&self) -> watch::Receiver<Version> {
        self.0.subscribe()
    }

    fn lag(&self, _: &Cursor) -> u64 {
        0
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_ended_before_assignment_receives_its_end() {
    let (lifecycle, streams) = (Lifecycle::new(), StreamRegistry::new(1));
    let fanout = Fanout::start(&lifecycle, Duration::from_secs(120)).unwrap();
    let request = RequestFacts::new(EnvironmentLabel::new("v", "e"), "r", "server").into();
    let source = Arc::new(Silence(watch::Sender::new(Version::default())));
    let stream = OpenStream::new(source, 0, streams.open(request, None).unwrap());
    streams.end_where(EndReason::SourceLost, |_| true);

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let (socket, peer) = listener.accept().unwrap();
    socket.set_nonblocking(true).unwrap();
    let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    let (after, unread, returning) = (AfterStream::Close, Bytes::new(), mpsc::channel(1).0);
    fanout.add(StreamHandoff { socket, session: None, stream, peer, permit, unread, after, returning });
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, LAST_CHUNK);
    assert!(lifecycle.stop(Duration::from_secs(5)).await);
}
