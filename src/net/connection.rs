//! A connection to the HTTP server. Once a request on it was refused before its body had come whole, the rest of what its client sends is
//! thrown away inside the kernel: closing at once would take the answer from the client (the kernel resets such a connection), and reading
//! costs a server that is overloaded as much as taking the body would have.

use crate::budget::turns::Turns;
use actix_web::HttpRequest;
use actix_web::rt::net::TcpStream;
use rustix::net::{RecvFlags, recv};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Thrown away by one call, which touches none of them.
const PIECE_BYTES: usize = 64 << 10;
/// Such calls before others have their turn.
const PIECES_MAX: usize = 16;

/// See the module.
pub struct Connection {
    io: TcpStream,
    refused: Refused,
    turns: Arc<Turns>,
    /// Until then nothing is thrown away.
    pause: Option<Pin<Box<Sleep>>>,
    read: Read,
}

/// How far the first request was read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Read {
    Nothing,
    /// As much as was asked for: the head of a request, in most cases, and the beginning of its body.
    Head,
    More,
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
    pub fn new(io: TcpStream, turns: Arc<Turns>) -> Self {
        Self {
            io,
            refused: Refused::default(),
            turns,
            pause: None,
            read: Read::Nothing,
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
    fn throw_away(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        let turns = self.turns.clone();
        let (gone, pause) = turns.spend(|| self.throw_away_some(context));
        if let Some(ended) = gone {
            return ended;
        }
        match pause.is_zero() {
            true => context.waker().wake_by_ref(),
            false => {
                let mut pause = Box::pin(sleep(pause));
                // Ready already: once more at once.
                if pause.as_mut().poll(context).is_ready() {
                    context.waker().wake_by_ref();
                }
                self.pause = Some(pause);
            }
        }
        Poll::Pending
    }

    /// Some of it; `None`: there may be more.
    fn throw_away_some(&self, context: &mut Context<'_>) -> Option<Poll<io::Result<()>>> {
        let mut untouched = [0; PIECE_BYTES];
        for _ in 0..PIECES_MAX {
            let gone = self.io.try_io(Interest::READABLE, || {
                let (_, bytes) = recv(&self.io, &mut untouched, RecvFlags::TRUNC)?;
                Ok(bytes)
            });
            match gone {
                Ok(0) => return Some(Poll::Ready(Ok(()))),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match self.io.poll_read_ready(context) {
                        Poll::Ready(Ok(())) => {}
                        other => return Some(other),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Some(Poll::Ready(Err(error))),
            }
        }
        None
    }

    /// Reads. After the first piece the reader has a look at it: whoever is refused by the head of a request has the rest thrown away, and
    /// not read first, as much as there is.
    fn read(&mut self, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.read == Read::Head {
            self.read = Read::More;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = into.filled().len();
        let read = Pin::new(&mut self.io).poll_read(context, into);
        if self.read == Read::Nothing && into.filled().len() > before {
            self.read = match into.remaining() {
                0 => Read::Head,
                _ => Read::More,
            };
        }
        read
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
            false => this.read(context, into),
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
    use std::task::Waker;
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
            let mut connection = Connection::new(stream, Arc::new(Turns::new(8)));
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

    #[tokio::test]
    async fn after_its_first_piece_the_reader_may_look_before_it_reads_on() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("bound");
        let mut client = TcpStream::connect(address).await.expect("it listens");
        client.write_all(&[b'x'; 300]).await.expect("sent");
        let (stream, _) = listener.accept().await.expect("a connection");
        stream.readable().await.expect("something");
        let mut connection = Connection::new(stream, Arc::new(Turns::new(8)));
        let mut piece = [0; 100];
        let mut context = Context::from_waker(Waker::noop());
        let mut read = || {
            let mut into = ReadBuf::new(&mut piece);
            let read = Pin::new(&mut connection).poll_read(&mut context, &mut into);
            read.map(|read| read.map(|()| into.filled().len()).expect("open"))
        };
        let reads = [read(), read(), read(), read()];
        use Poll::{Pending, Ready};
        assert_eq!(reads, [Ready(100), Pending, Ready(100), Ready(100)]);
    }
}
