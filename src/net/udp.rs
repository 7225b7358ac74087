//! UDP sockets: several may share an address, each with as large a receive buffer as the kernel gives; datagrams come many at a
//! time (recvmmsg); what the kernel drops is counted.

use super::waiting::Datagrams;
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;

/// The largest datagram there is, and the most that the kernel puts together (GRO).
const DATAGRAM_BYTES_MAX: usize = 65_536;

/// Binds `count` sockets to an address; the kernel spreads senders over them.
///
/// # Errors
/// Input/output.
pub fn bind(address: SocketAddr, count: usize, receive_bytes: usize) -> io::Result<Vec<UdpSocket>> {
    // With port 0 the first socket chooses.
    let mut address = address;
    (0..count.max(1))
        .map(|_| {
            let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
            if count > 1 {
                socket.set_reuse_port(true)?;
            }
            ask_for_buffer(&socket, receive_bytes);
            socket.bind(&address.into())?;
            let socket = UdpSocket::from(socket);
            address = socket.local_addr()?;
            Ok(socket)
        })
        .collect()
}

/// A larger buffer than the system's limit (`net.core.rmem_max`) is given only to the privileged. Less than asked for is no
/// error: how much it became is told by /metrics.
fn ask_for_buffer(socket: &Socket, bytes: usize) {
    #[cfg(target_os = "linux")]
    if rustix::net::sockopt::set_socket_recv_buffer_size_force(socket.as_fd(), bytes).is_ok() {
        return;
    }
    let _ = socket.set_recv_buffer_size(bytes);
}

/// Bytes of the receive buffer, as the kernel gave it. (Linux tells twice what was asked for: its own overhead lives there, too.)
pub fn receive_buffer_bytes(socket: impl AsFd) -> u64 {
    rustix::net::sockopt::socket_recv_buffer_size(socket).map_or(0, |bytes| bytes as u64)
}

/// Reads datagrams of a socket, many in one system call.
pub struct Reader {
    socket: UdpSocket,
    state: UdpSocketState,
    buffers: Vec<u8>,
    meta: [RecvMeta; BATCH_SIZE],
}

impl Reader {
    /// Of a socket, which must not block from now on.
    ///
    /// # Errors
    /// Input/output.
    pub fn new(socket: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Self {
            socket,
            state,
            buffers: vec![0; DATAGRAM_BYTES_MAX * BATCH_SIZE],
            meta: [RecvMeta::default(); BATCH_SIZE],
        })
    }

    /// The socket.
    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Adds what has arrived, up to some dozens of datagrams; false when nothing has.
    ///
    /// # Errors
    /// Input/output.
    pub fn read(&mut self, into: &mut Datagrams) -> io::Result<bool> {
        let mut slices: Vec<IoSliceMut<'_>> = self
            .buffers
            .chunks_mut(DATAGRAM_BYTES_MAX)
            .map(IoSliceMut::new)
            .collect();
        let count = match self
            .state
            .recv((&self.socket).into(), &mut slices, &mut self.meta)
        {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        for (meta, buffer) in self.meta[..count].iter().zip(&slices) {
            // The kernel may have put several datagrams of one sender into one buffer.
            let received = &buffer[..meta.len.min(buffer.len())];
            received
                .chunks(meta.stride.max(1))
                .for_each(|datagram| into.push(datagram));
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_share_an_address_and_lose_nothing() {
        let any = "127.0.0.1:0".parse().expect("an address");
        let sockets = bind(any, 3, 1 << 16).expect("bound");
        let address = sockets[0].local_addr().expect("bound");
        assert!(sockets.iter().all(|s| s.local_addr().is_ok_and(|a| a == address)));
        // Linux doubles what is asked for; its default is another number.
        #[cfg(target_os = "linux")]
        assert_eq!(receive_buffer_bytes(&sockets[0]), 2 << 16);
        let mut readers: Vec<Reader> = sockets
            .into_iter()
            .map(|s| Reader::new(s).expect("a reader"))
            .collect();
        let senders: Vec<UdpSocket> = (0..8)
            .map(|_| UdpSocket::bind("127.0.0.1:0").expect("bound"))
            .collect();
        for i in 0..80u32 {
            let text = format!("{i}");
            senders[i as usize % 8]
                .send_to(text.as_bytes(), address)
                .expect("sent");
        }
        let mut all = Datagrams::default();
        for reader in &mut readers {
            while reader.read(&mut all).expect("read") {}
        }
        let mut got: Vec<u32> = all
            .iter()
            .map(|d| String::from_utf8_lossy(d).parse().expect("a number"))
            .collect();
        got.sort_unstable();
        assert_eq!(got, (0..80).collect::<Vec<u32>>());
    }
}
