//! A connection to the HTTP server. Once a request on it was refused before its body had come whole, the rest of what its client sends is
//! thrown away inside the kernel: closing at once would take the answer from the client (the kernel resets such a connection), and reading
//! costs a server that is overloaded as much as taking the body would have.

use actix_web::HttpRequest;
use actix_web::rt::net::TcpStream;
use rustix::net::{RecvFlags, recv};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

/// Thrown away by one call, which touches none of them.
const PIECE_BYTES: usize = 64 << 10;
/// Such calls before others have their turn.
const PIECES_MAX: usize = 16;

/// See the module.
pub struct Connection {
    io: TcpStream,
    refused: Refused,
}

/// Says of a connection that what comes from now on is not wanted.
#[derive(Clone, Default)]
pub struct Refused(Arc<AtomicBool>);

impl Refused {
    /// Of the connection of a request.
    pub fn of(request: &HttpRequest) -> Option<&Self> {
        request.conn_data::<Self>()
    }

    /// Nothing more is wanted. The answer has to be the connection's last.
    pub fn set(&self) {
        self.0.store(true, Relaxed);
    }

    /// Was that said?
    pub fn is_set(&self) -> bool {
        self.0.load(Relaxed)
    }
}

impl Connection {
    /// One that has come.
    pub fn new(io: TcpStream) -> Self {
        Self {
            io,
            refused: Refused::default(),
        }
    }

    /// To say that nothing more is wanted.
    pub fn refused(&self) -> Refused {
        self.refused.clone()
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        &self.io
    }

    /// Throws away what is there; ready at the end of it.
    fn throw_away(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut untouched = [0; PIECE_BYTES];
        for _ in 0..PIECES_MAX {
            let gone = self.io.try_io(Interest::READABLE, || {
                let (_, bytes) = recv(&self.io, &mut untouched, RecvFlags::TRUNC)?;
                Ok(bytes)
            });
            match gone {
                Ok(0) => return Poll::Ready(Ok(())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match self.io.poll_read_ready(context) {
                        Poll::Ready(Ok(())) => {}
                        other => return other,
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.refused.is_set() {
            true => this.throw_away(context),
            false => Pin::new(&mut this.io).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn what_a_refused_client_sends_is_thrown_away_and_its_end_is_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("bound");
        let client = async move {
            let mut stream = TcpStream::connect(address).await.expect("it listens");
            stream.write_all(b"head").await.expect("sent");
            // Far more than buffers hold.
            stream.write_all(&vec![b'x'; 32 << 20]).await.expect("taken");
            stream.shutdown().await.expect("open");
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.expect("an answer");
            answer
        };
        let server = async move {
            let (stream, _) = listener.accept().await.expect("a connection");
            let mut connection = Connection::new(stream);
            let mut head = [0; 4];
            connection.read_exact(&mut head).await.expect("a head");
            assert_eq!(&head, b"head", "before it is refused all is read");
            connection.refused().set();
            let mut rest = Vec::new();
            connection.read_to_end(&mut rest).await.expect("an end");
            assert!(rest.is_empty(), "{} bytes were read", rest.len());
            connection.write_all(b"no").await.expect("sent");
            connection.shutdown().await.expect("open");
        };
        let (answer, ()) = tokio::join!(client, server);
        assert_eq!(answer, b"no");
    }
}
