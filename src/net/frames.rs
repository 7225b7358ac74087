//! WebSocket frames over a connection that was taken over from the HTTP server. Buffers are there only while something is in them: most
//! connections wait, and ten thousand of them must not weigh much.

use actix_http::ws::{CloseCode, CloseReason, OpCode, Parser, ProtocolError};
use actix_web::web::{Bytes, BytesMut};
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;

/// Bytes read at once.
const READ_BYTES: usize = 4 << 10;
/// Messages are written together up to so many bytes.
const WRITE_BYTES: usize = 64 << 10;
/// Bytes of a frame before what it holds.
const HEAD_BYTES_MAX: usize = 14;
/// How long a client may take to close its side once it was told that we close ours.
const GOODBYE: Duration = Duration::from_secs(1);

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// A message of text; whether it is UTF-8 was not looked at.
    Text(Bytes),
    /// A message of anything else.
    Binary,
    /// To be answered with the same.
    Ping(Bytes),
    /// An answer to a ping.
    Pong,
    /// It closes the connection.
    Close,
}

/// Why nothing more can be read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// What came is not WebSocket.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// A message is too large.
    #[error("a message is longer than {0} bytes (live_message_bytes_max)")]
    TooLong(usize),
    /// Parts of messages that do not belong together.
    #[error("a part of a message without its beginning, or a beginning without the end of the one before")]
    Parts,
    /// The connection broke.
    #[error(transparent)]
    Broken(#[from] io::Error),
}

impl FrameError {
    /// What the client is told, if it can still be told anything.
    pub fn reason(&self) -> Option<CloseReason> {
        let code = match self {
            Self::Broken(_) => return None,
            Self::TooLong(_) => CloseCode::Size,
            Self::Protocol(_) | Self::Parts => CloseCode::Protocol,
        };
        let description = Some(self.to_string());
        Some(CloseReason { code, description })
    }
}

/// See the module.
pub struct Frames<T> {
    io: T,
    /// What was read and is not a whole frame yet.
    input: BytesMut,
    /// The parts so far of a message that comes in several.
    parts: Option<(bool, BytesMut)>,
    message_bytes_max: usize,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Frames<T> {
    /// Over a connection, of which this was read already.
    pub fn new(io: T, input: BytesMut, message_bytes_max: usize) -> Self {
        Self {
            io,
            input,
            parts: None,
            message_bytes_max,
        }
    }

    /// The next of what the client sends; `None`: it has closed its side. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// See [`FrameError`].
    pub async fn next(&mut self) -> Result<Option<Received>, FrameError> {
        loop {
            if let Some(received) = self.parse()? {
                return Ok(Some(received));
            }
            if self.input.is_empty() {
                self.input = BytesMut::new();
            }
            if self.read().await? == 0 {
                return Ok(None);
            }
        }
    }

    async fn read(&mut self) -> io::Result<usize> {
        let (io, input) = (&mut self.io, &mut self.input);
        poll_fn(|cx| {
            let mut space = [MaybeUninit::uninit(); READ_BYTES];
            let mut read = ReadBuf::uninit(&mut space);
            match Pin::new(&mut *io).poll_read(cx, &mut read) {
                Poll::Ready(Ok(())) => {
                    input.extend_from_slice(read.filled());
                    Poll::Ready(Ok(read.filled().len()))
                }
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    fn parse(&mut self) -> Result<Option<Received>, FrameError> {
        loop {
            let parsed = Parser::parse(&mut self.input, true, self.message_bytes_max);
            let too_long = || FrameError::TooLong(self.message_bytes_max);
            let parsed = parsed.map_err(|error| match error {
                ProtocolError::Overflow => too_long(),
                other => other.into(),
            })?;
            let Some((whole, code, payload)) = parsed else {
                // The parser waits for the whole of a frame, however long it says it is.
                let is_too_long = self.input.len() > self.message_bytes_max + HEAD_BYTES_MAX;
                return if is_too_long { Err(too_long()) } else { Ok(None) };
            };
            let payload = payload.unwrap_or_default();
            match code {
                OpCode::Ping => return Ok(Some(Received::Ping(payload.freeze()))),
                OpCode::Pong => return Ok(Some(Received::Pong)),
                OpCode::Close => return Ok(Some(Received::Close)),
                OpCode::Text | OpCode::Binary if self.parts.is_none() => {
                    self.parts = Some((code == OpCode::Text, payload));
                }
                OpCode::Continue if self.parts.is_some() => {
                    let parts = self.parts.as_mut().map(|(_, parts)| parts);
                    let parts = parts.ok_or(FrameError::Parts)?;
                    if parts.len() + payload.len() > self.message_bytes_max {
                        return Err(FrameError::TooLong(self.message_bytes_max));
                    }
                    parts.extend_from_slice(&payload);
                }
                _ => return Err(FrameError::Parts),
            }
            if whole && let Some((is_text, message)) = self.parts.take() {
                return Ok(Some(match is_text {
                    true => Received::Text(message.freeze()),
                    false => Received::Binary,
                }));
            }
        }
    }

    /// Writes messages, several at once. Each time the client takes some of it, it may wait for so long again.
    ///
    /// # Errors
    /// The connection broke, or the client takes nothing ([`io::ErrorKind::TimedOut`]).
    pub async fn send(
        &mut self,
        code: OpCode,
        messages: impl IntoIterator<Item = Bytes>,
        patience: Duration,
    ) -> io::Result<()> {
        let mut out = BytesMut::new();
        let mut messages = messages.into_iter().peekable();
        while let Some(message) = messages.next() {
            Parser::write_message(&mut out, message, code, true, false);
            if out.len() >= WRITE_BYTES || messages.peek().is_none() {
                self.write(&mut out, patience).await?;
            }
        }
        Ok(())
    }

    async fn write(&mut self, out: &mut BytesMut, patience: Duration) -> io::Result<()> {
        while !out.is_empty() {
            let written = timeout(patience, self.io.write_buf(out));
            if written.await.map_err(|_| io::ErrorKind::TimedOut)?? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    /// Says why the connection ends and ends it. The client is given a moment to read that.
    pub async fn close(mut self, reason: Option<CloseReason>) {
        let mut out = BytesMut::new();
        Parser::write_close(&mut out, reason, false);
        let goodbye = async {
            self.write(&mut out, GOODBYE).await?;
            self.io.shutdown().await?;
            // A connection with bytes that nobody read is reset, and what was said last may be lost.
            while self.read().await? > 0 {
                self.input.clear();
            }
            Ok::<_, io::Error>(())
        };
        // The connection may be gone already.
        let _ = timeout(GOODBYE, goodbye).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(out: &mut BytesMut, code: OpCode, whole: bool, text: &[u8]) {
        Parser::write_message(out, text, code, whole, true);
    }

    /// What is received of these bytes when so many come at once; how it ends.
    async fn received(bytes: &[u8], piece: usize) -> (Vec<Received>, String) {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let mut frames = Frames::new(server, BytesMut::new(), 100);
        let sending = async {
            for piece in bytes.chunks(piece) {
                if client.write_all(piece).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(client);
        };
        let receiving = async {
            let mut out = Vec::new();
            loop {
                match frames.next().await {
                    Ok(Some(one)) => out.push(one),
                    Ok(None) => return (out, "end".to_string()),
                    Err(error) => return (out, error.to_string()),
                }
            }
        };
        futures_util::future::join(sending, receiving).await.1
    }

    #[tokio::test]
    async fn messages_come_whole_however_they_are_cut() {
        let mut bytes = BytesMut::new();
        frame(&mut bytes, OpCode::Text, true, b"one");
        frame(&mut bytes, OpCode::Text, false, b"two, ");
        frame(&mut bytes, OpCode::Ping, true, b"?");
        frame(&mut bytes, OpCode::Continue, false, b"and ");
        frame(&mut bytes, OpCode::Continue, true, b"more");
        frame(&mut bytes, OpCode::Binary, true, &[0; 100]);
        frame(&mut bytes, OpCode::Pong, true, b"");
        frame(&mut bytes, OpCode::Close, true, b"");
        let text = |text: &'static str| Received::Text(Bytes::from_static(text.as_bytes()));
        for piece in [1, 7, 4096] {
            let want = vec![
                text("one"),
                Received::Ping(Bytes::from_static(b"?")),
                text("two, and more"),
                Received::Binary,
                Received::Pong,
                Received::Close,
            ];
            assert_eq!(received(&bytes, piece).await, (want, "end".to_string()));
        }
    }

    #[tokio::test]
    async fn what_is_wrong_or_too_long_ends_it() {
        let mut unmasked = BytesMut::new();
        Parser::write_message(&mut unmasked, b"x", OpCode::Text, true, false);
        let mut long = BytesMut::new();
        frame(&mut long, OpCode::Text, true, &[b'x'; 101]);
        // It says that it is endless: nobody may wait for that.
        let mut endless = vec![0x81, 0xFF, 0x7F, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];
        endless.resize(300, b'x');
        let mut parts = BytesMut::new();
        frame(&mut parts, OpCode::Text, false, &[b'x'; 60]);
        frame(&mut parts, OpCode::Continue, true, &[b'x'; 60]);
        let mut nested = BytesMut::new();
        frame(&mut nested, OpCode::Text, false, b"x");
        frame(&mut nested, OpCode::Text, true, b"x");
        let mut headless = BytesMut::new();
        frame(&mut headless, OpCode::Continue, true, b"x");
        for (bytes, wanted) in [
            (&unmasked[..], "unmasked"),
            (&long[..], "live_message_bytes_max"),
            (&endless[..], "live_message_bytes_max"),
            (&parts[..], "live_message_bytes_max"),
            (&nested[..], "without"),
            (&headless[..], "without"),
        ] {
            let (got, error) = received(bytes, 50).await;
            assert!(got.is_empty() && error.contains(wanted), "{got:?} {error}");
        }
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_not_waited_for() {
        let (_client, server) = tokio::io::duplex(1000);
        let mut frames = Frames::new(server, BytesMut::new(), 100);
        let message = Bytes::from(vec![b'x'; 5000]);
        let sent = frames.send(OpCode::Text, [message], Duration::from_millis(50));
        assert_eq!(sent.await.map_err(|e| e.kind()), Err(io::ErrorKind::TimedOut));
    }
}
