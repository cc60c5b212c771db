//! A minimal HTTP/2 client with one request per connection. It reads the response of a stream and answers what the
//! protocol requires an answer for.

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// The field `:status: 200` of the static table.
const STATUS_200: u8 = 0x88;

/// Reads the frames of one connection.
#[derive(Default)]
pub(crate) struct Frames {
    received: Vec<u8>,
}

/// Content of frames that concern the response.
pub(crate) enum Part {
    /// The response begins, and its status is 200.
    Head,
    Data(Vec<u8>),
    /// Bytes that the client has to send.
    Reply(Vec<u8>),
}

/// Builds what a client sends to request a path: preface, settings with windows that are never full, and the request.
pub(crate) fn request(path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    let window = 0x3fff_ffff_u32.to_be_bytes();
    // The window of each stream is the setting with the number 4.
    bytes.extend(frame(SETTINGS, 0, 0, &[&[0, 4][..], &window].concat()));
    bytes.extend(frame(WINDOW_UPDATE, 0, 0, &window));
    let mut block = Vec::new();
    let fields = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", path)];
    for (name, value) in fields.iter().chain(headers) {
        // A literal field that enters no table; a length of up to 126 is one byte.
        block.push(0);
        for text in [name.to_ascii_lowercase().as_str(), *value] {
            block.push(u8::try_from(text.len()).unwrap_or(u8::MAX).min(126));
            block.extend_from_slice(text.as_bytes());
        }
    }
    bytes.extend(frame(HEADERS, END_STREAM | END_HEADERS, 1, &block));
    bytes
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

impl Frames {
    /// Reads more bytes of the server. An error is the reason why the response ended.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Result<Vec<Part>, String> {
        self.received.extend_from_slice(bytes);
        let (mut parts, mut at) = (Vec::new(), 0);
        while let Some(head) = self.received.get(at..at + HEAD) {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let (kind, flags) = (head[3], head[4]);
            let Some(payload) = self.received.get(at + HEAD..at + HEAD + length) else { break };
            match kind {
                DATA if !payload.is_empty() => parts.push(Part::Data(payload.to_vec())),
                HEADERS if payload.first() == Some(&STATUS_200) => parts.push(Part::Head),
                HEADERS => return Err("answered with another status than 200".to_owned()),
                SETTINGS if flags & ACK == 0 => parts.push(Part::Reply(frame(SETTINGS, ACK, 0, &[]))),
                PING if flags & ACK == 0 => parts.push(Part::Reply(frame(PING, ACK, 0, payload))),
                RESET | GOAWAY => return Err(format!("the gateway sent a frame of type {kind}")),
                _ => (),
            }
            if (kind == DATA || kind == HEADERS) && flags & END_STREAM != 0 {
                return Err("the stream was ended by the gateway".to_owned());
            }
            at += HEAD + length;
        }
        self.received.drain(..at);
        if self.received.is_empty() {
            self.received = Vec::new();
        }
        Ok(parts)
    }
}
