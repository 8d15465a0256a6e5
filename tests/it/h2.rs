//! HTTP/2 by hand, to do what no client of good manners does.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use prost::Message;

/// Kinds of frames.
pub(crate) const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// Larger ones need leave.
const FRAME_BYTES_MAX: usize = 16384;
/// The setting of how much may be sent on a stream before the other side says that it may be more.
pub(crate) const INITIAL_WINDOW: u16 = 4;

/// A connection on which only that is sent which a test says.
pub(crate) struct Raw(pub(crate) TcpStream);

impl Raw {
    /// Sends the preface and these settings over `stream`.
    pub(crate) fn over(stream: TcpStream, settings: &[(u16, u32)]) -> Self {
        let mut raw = Self(stream);
        raw.0.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("writable");
        let pairs = settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat());
        raw.frame(SETTINGS, 0, 0, &pairs.collect::<Vec<u8>>());
        raw
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = (payload.len() as u32).to_be_bytes();
        let frame = [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat();
        self.0.write_all(&frame).expect("writable");
    }

    /// Lets that many more bytes be sent to the connection.
    pub(crate) fn widen(&mut self, bytes: u32) {
        self.frame(WINDOW_UPDATE, 0, 0, &bytes.to_be_bytes());
    }

    /// The head of a call of `method` (`/package.Service/Method`).
    pub(crate) fn head(&mut self, stream: u32, method: &str) {
        let mut block = Vec::new();
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", method),
            (":authority", "test"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        for (name, value) in fields {
            // A literal that is not put into tables; lengths are below 127.
            block.extend([0, name.len() as u8]);
            block.extend(name.bytes());
            block.push(value.len() as u8);
            block.extend(value.bytes());
        }
        self.frame(HEADERS, END_HEADERS, stream, &block);
    }

    /// Some of a call's message.
    pub(crate) fn data(&mut self, stream: u32, bytes: &[u8]) {
        bytes.chunks(FRAME_BYTES_MAX).for_each(|piece| self.frame(DATA, 0, stream, piece));
    }

    /// A whole call.
    pub(crate) fn call(&mut self, stream: u32, method: &str, message: &impl Message) {
        self.head(stream, method);
        self.data(stream, &framed(message));
        self.frame(DATA, END_STREAM, stream, &[]);
    }

    /// The kind, flags and contents of the next frame; `None` at the end of the connection.
    pub(crate) fn next(&mut self) -> Option<(u8, u8, Vec<u8>)> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).ok()?;
        Some((head[3], head[4], payload))
    }
}

/// A message as gRPC sends it.
pub(crate) fn framed(message: &impl Message) -> Vec<u8> {
    let bytes = message.encode_to_vec();
    [&[0][..], &(bytes.len() as u32).to_be_bytes(), &bytes].concat()
}
