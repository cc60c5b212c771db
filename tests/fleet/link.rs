//! A TCP connection between a gateway and what it needs, which can be cut, and led elsewhere.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Forwards connections; ends when dropped.
pub(super) struct Link {
    address: SocketAddr,
    /// Where connections lead; `None` while they are cut.
    target: Arc<watch::Sender<Option<SocketAddr>>>,
    task: JoinHandle<()>,
}

impl Link {
    #[expect(clippy::disallowed_methods, reason = "a test has no lifecycle")]
    pub(super) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let target = Arc::new(watch::Sender::new(Some(target)));
        let targets = Arc::clone(&target);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let mut changes = targets.subscribe();
                let Some(target) = *changes.borrow_and_update() else { continue };
                tokio::spawn(async move {
                    tokio::select! {
                        () = forward(client, target) => (),
                        // The other side closes as well when the sockets are dropped.
                        _ = changes.changed() => (),
                    }
                });
            }
        });
        Self { address, target, task }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes all connections, and new ones at once.
    pub(super) fn cut(&self) {
        self.target.send_replace(None);
    }

    /// Leads to `target` from now on; open connections are closed.
    pub(super) fn lead_to(&self, target: SocketAddr) {
        self.target.send_replace(Some(target));
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(mut client: TcpStream, target: SocketAddr) {
    if let Ok(mut server) = TcpStream::connect(target).await {
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}
