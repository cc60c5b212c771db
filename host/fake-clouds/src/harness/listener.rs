//! The port of the fake, which can be closed, with all connections, and opened again.

use std::net::SocketAddr;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use super::{FakeHarness, answers};

/// An open port.
pub(super) struct Listening {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl FakeHarness {
    /// Closes the port and cuts every connection, like a server that stops; see [`Self::picks_up`].
    pub async fn hangs_up(&self) {
        if let Some(Listening { stop, task }) = self.listener.lock().await.take() {
            let _ = stop.send(());
            let _ = task.await;
        }
    }

    /// Opens the same port again.
    ///
    /// # Panics
    /// When another process has taken it.
    pub async fn picks_up(&self) {
        let mut listening = self.listener.lock().await;
        if listening.is_none() {
            let bound = bind(self.address).await.expect("the port is still free");
            *listening = Some(serve(bound, self.clone()));
        }
    }
}

pub(super) async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

#[expect(clippy::disallowed_methods, reason = "a fake lives as long as the runtime; there is nothing to hand over")]
pub(super) fn serve(listener: TcpListener, cloud: FakeHarness) -> Listening {
    let router = Router::new().fallback(answers::answer).with_state(cloud);
    let (stop, stopping) = oneshot::channel();
    Listening { stop, task: tokio::spawn(accept(listener, router, stopping)) }
}

async fn accept(listener: TcpListener, router: Router, mut stopping: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            // Only an explicit message stops the server, not a dropped sender.
            Ok(()) = &mut stopping => break,
            accepted = listener.accept() => {
                let Ok((socket, _)) = accepted else { continue };
                let _ = socket.set_nodelay(true);
                let service = TowerToHyperService::new(router.clone());
                connections.spawn(async move {
                    let server = auto::Builder::new(TokioExecutor::new());
                    // A client that disconnects is not an error.
                    let _ = server.serve_connection(TokioIo::new(socket), service).await;
                });
            }
            Some(_) = connections.join_next() => (),
        }
    }
    drop(listener);
    connections.shutdown().await;
}
