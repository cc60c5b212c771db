//! A TCP connection that is written and read byte by byte: without an HTTP library, which could share a bug with the
//! gateway's, and without additions to what a test sends.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Time limit of waits in tests; a test that reaches it has failed. It is long, because on a busy machine interpreters
/// and browsers start slowly, and plugins are compiled at idle priority.
pub const WAIT_TIMEOUT: Duration = Duration::from_secs(120);

/// The client's end of a connection.
pub struct Connection {
    socket: TcpStream,
    unread: BytesMut,
}

/// The first lines of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// `HTTP/1.1` or `HTTP/1.0`.
    pub version: String,
    /// Status code.
    pub status: u16,
    /// Names in lower case, sorted by name.
    pub headers: Vec<(String, String)>,
}

/// How the end of a body is determined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Nothing,
    Length(usize),
    Chunked,
    UntilClose,
}

impl Connection {
    /// Opens a connection.
    ///
    /// # Panics
    /// When no server listens there.
    pub async fn open(address: SocketAddr) -> Self {
        let socket = within("a connection", TcpStream::connect(address)).await.expect("a listening server");
        Self { socket, unread: BytesMut::new() }
    }

    /// Opens a connection with a receive buffer of about this many bytes, so that a client that does not read is
    /// detected soon.
    ///
    /// # Panics
    /// When no server listens there.
    pub async fn open_narrow(address: SocketAddr, receive_buffer: u32) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(receive_buffer).expect("a buffer size");
        let socket = within("a connection", socket.connect(address)).await.expect("a listening server");
        Self { socket, unread: BytesMut::new() }
    }

    /// Sends bytes unchanged.
    ///
    /// # Panics
    /// When the connection is closed.
    pub async fn sends(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.expect("a connection that takes bytes");
    }

    /// Sends bytes unchanged; the other side may have closed already.
    ///
    /// # Errors
    /// When it has.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        within("room to send", self.socket.write_all(bytes.as_ref())).await
    }

    /// Waits until the other side closes, and returns what it sent before; `None` if it is still open after `limit`.
    pub async fn closes_within(mut self, limit: Duration) -> Option<Bytes> {
        let end = async { while matches!(self.socket.read_buf(&mut self.unread).await, Ok(count) if count > 0) {} };
        tokio::time::timeout(limit, end).await.ok()?;
        Some(self.unread.freeze())
    }

    /// Returns whether the other side has closed already, as far as this end knows.
    pub async fn has_ended(&mut self) -> bool {
        // Dropping the read loses nothing: received bytes are kept.
        let read = tokio::time::timeout(Duration::ZERO, self.socket.read_buf(&mut self.unread)).await;
        !matches!(read, Err(_) | Ok(Ok(1..)))
    }

    /// Returns the head of the next final response; `None` if the connection ends instead.
    ///
    /// # Panics
    /// When the bytes are not a head, or none arrive.
    pub async fn head(&mut self) -> Option<Head> {
        loop {
            match self.any_head().await? {
                // An interim response, which is skipped.
                interim if interim.status < 200 => (),
                head => return Some(head),
            }
        }
    }

    /// Returns the status of the next response, which must be an interim one.
    ///
    /// # Panics
    /// When it is not, or none arrives.
    pub async fn interim(&mut self) -> u16 {
        let head = self.any_head().await.expect("a response");
        assert!(head.status < 200, "{head:?}");
        head.status
    }

    async fn any_head(&mut self) -> Option<Head> {
        loop {
            if let Some(end) = find(&self.unread, b"\r\n\r\n") {
                let text = self.unread.split_to(end + 4);
                return Some(Head::parse(std::str::from_utf8(&text).expect("a head in ASCII")));
            }
            if self.fill().await == 0 {
                assert!(self.unread.is_empty(), "connection ended within a head: {:?}", self.unread);
                return None;
            }
        }
    }

    /// Reads a body of a known length.
    ///
    /// # Panics
    /// When the connection ends before, or no bytes arrive.
    pub async fn exactly(&mut self, length: usize) -> Bytes {
        while self.unread.len() < length {
            assert!(self.fill().await > 0, "connection ended within a body: {:?} of {length} bytes", self.unread);
        }
        self.unread.split_to(length).freeze()
    }

    /// Returns the next chunk of a chunked body; empty for the last one, `None` if the connection ends instead.
    ///
    /// # Panics
    /// When the bytes are not a chunk, or none arrive.
    pub async fn chunk(&mut self) -> Option<Bytes> {
        let line_end = loop {
            if let Some(end) = find(&self.unread, b"\r\n") {
                break end;
            }
            if self.fill().await == 0 {
                return None;
            }
        };
        let line = self.unread.split_to(line_end + 2);
        let text = std::str::from_utf8(&line[..line_end]).expect("a size line in ASCII");
        let size = usize::from_str_radix(text, 16).unwrap_or_else(|_| panic!("no size line: {text:?}"));
        while self.unread.len() < size + 2 {
            if self.fill().await == 0 {
                return None;
            }
        }
        let chunk = self.unread.split_to(size).freeze();
        assert_eq!(&self.unread.split_to(2)[..], b"\r\n", "a chunk ends with a line end");
        Some(chunk)
    }

    /// Returns the next bytes; empty at the end of the connection.
    pub(crate) async fn some(&mut self) -> Bytes {
        if self.unread.is_empty() {
            self.fill().await;
        }
        self.unread.split().freeze()
    }

    /// Reads more bytes. A reset counts as an end: in both cases nothing more arrives.
    async fn fill(&mut self) -> usize {
        within("bytes", self.socket.read_buf(&mut self.unread)).await.unwrap_or(0)
    }
}

impl Head {
    fn parse(text: &str) -> Self {
        let mut lines = text.split("\r\n");
        let mut first = lines.next().unwrap_or_default().splitn(3, ' ');
        let version = first.next().unwrap_or_default().to_owned();
        let status = first.next().and_then(|it| it.parse().ok()).unwrap_or_else(|| panic!("no status line: {text:?}"));
        let header = |line: &str| {
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no header: {line:?}"));
            (name.to_ascii_lowercase(), value.trim().to_owned())
        };
        let mut headers: Vec<_> = lines.filter(|line| !line.is_empty()).map(header).collect();
        headers.sort();
        Self { version, status, headers }
    }

    /// Returns the value of a header; `None` if it is missing.
    ///
    /// # Panics
    /// When it occurs twice.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(it, _)| it == name).map(|(_, value)| value.as_str());
        let value = values.next();
        assert!(values.next().is_none(), "`{name}` is there twice: {:?}", self.headers);
        value
    }

    pub(crate) fn framing(&self, method: &str) -> Framing {
        if method == "HEAD" || matches!(self.status, 100..=199 | 204 | 304) {
            return Framing::Nothing;
        }
        if let Some(coding) = self.header("transfer-encoding") {
            assert_eq!(coding, "chunked");
            assert_eq!(self.header("content-length"), None, "two lengths");
            return Framing::Chunked;
        }
        self.header("content-length")
            .map_or(Framing::UntilClose, |it| Framing::Length(it.parse().expect("a length in digits")))
    }
}

/// Waits for an expected event.
///
/// # Panics
/// When it does not happen within the time limit.
pub async fn within<T>(what: &str, happens: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(WAIT_TIMEOUT, happens).await;
    waited.unwrap_or_else(|_| panic!("waited {} s for {what}", WAIT_TIMEOUT.as_secs()))
}

/// Polls until `condition` holds.
///
/// # Panics
/// When it does not hold within the time limit.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let looks = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(what, looks).await;
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|it| it == part)
}
