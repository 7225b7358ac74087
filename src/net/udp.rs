//! Datagrams: gathered into batches, dropped and counted when the server cannot keep up.

use super::counters::add;
use super::feed::Feed;
use super::tcp::Shared;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::watch;

/// The largest datagram there is.
const DATAGRAM_BYTES_MAX: usize = 65_536;
/// Receive buffer asked of the kernel; it may give less.
const RECEIVE_BYTES: usize = 8 << 20;
/// Datagrams of one batch.
const BATCH_DATAGRAMS_MAX: usize = 4096;
/// After a batch the next datagrams may gather so long: an fsync a datagram would keep nobody up to date.
const GATHER: Duration = Duration::from_millis(5);

/// Binds a socket with a large receive buffer.
///
/// # Errors
/// Input/output.
pub fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    // Less than asked for is no error.
    let _ = socket.set_recv_buffer_size(RECEIVE_BYTES);
    socket.bind(&address.into())?;
    if let Ok(bytes) = socket.recv_buffer_size() {
        tracing::debug!(%address, bytes, "UDP receive buffer");
    }
    UdpSocket::from_std(socket.into())
}

/// Takes datagrams until told to stop, then what has arrived.
pub async fn serve(socket: UdpSocket, feed: Arc<Feed>, shared: Shared, mut stop: watch::Receiver<bool>) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let stopping = tokio::select! {
            _ = stop.changed() => true,
            ready = socket.readable() => {
                if let Err(error) = ready {
                    tracing::warn!(%error, "cannot read a UDP socket");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                false
            }
        };
        loop {
            let mut taken = 0;
            let decoded = feed.decode(|sink, _| {
                let mut decoder = shared.lock().unwrap_or_else(PoisonError::into_inner);
                let counters = (feed.ingest)(&feed.services);
                while taken < BATCH_DATAGRAMS_MAX {
                    let Ok(count) = socket.try_recv(&mut buffer) else {
                        break;
                    };
                    taken += 1;
                    add(&counters.bytes, count as u64);
                    decoder.decode(&buffer[..count], sink);
                }
                add(&counters.requests, taken as u64);
            });
            if let Some((batch, rows)) = decoded {
                feed.submit_or_drop(batch, rows);
            }
            if taken < BATCH_DATAGRAMS_MAX {
                break;
            }
        }
        if stopping {
            return;
        }
        tokio::time::sleep(GATHER).await;
    }
}
