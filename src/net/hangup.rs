//! Notices that a client has gone while its query runs, so that nobody computes what nobody waits for.
//!
//! A client that has gone has closed its side, and so has one that only says that it will send no more (`nc -N`, `shutdown`): the
//! network does not tell them apart. So requests are answered whatever the client did with its side, and only a query that runs on for
//! a while after it was closed is stopped, as InfluxDB does.

use super::connection::Connection;
use crate::query::{Cancel, Why};
use actix_web::HttpRequest;
use actix_web::dev::Extensions;
use actix_web::rt::net::UnixStream;
use actix_web::rt::task::JoinHandle;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::any::Any;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked. A query that is faster is answered in any case.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A connection, to be looked at beside whoever reads and writes it.
#[derive(Clone)]
pub struct Peer(Arc<OwnedFd>);

/// Keeps a connection with its requests.
pub fn remember(connection: &dyn Any, kept: &mut Extensions) {
    let tcp = connection.downcast_ref::<Connection>();
    if let Some(tcp) = tcp {
        kept.insert(tcp.refused());
    }
    let tcp = tcp.map(AsFd::as_fd);
    let unix = connection.downcast_ref::<UnixStream>().map(AsFd::as_fd);
    // Out of file descriptors: its queries are stopped when writing their answers fails.
    if let Some(Ok(fd)) = tcp.or(unix).map(|fd| fd.try_clone_to_owned()) {
        kept.insert(Peer(Arc::new(fd)));
    }
}

impl Peer {
    /// Its socket.
    pub fn socket(&self) -> Arc<OwnedFd> {
        self.0.clone()
    }

    /// Of a request.
    pub fn of(request: &HttpRequest) -> Option<Self> {
        request.conn_data::<Self>().cloned()
    }

    /// Has the client closed its side?
    pub fn has_closed(&self) -> bool {
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let mut sockets = [PollFd::new(&self.0, PollFlags::RDHUP)];
        poll(&mut sockets, Some(&now)).is_ok_and(|ready| ready > 0)
    }
}

/// Looks after a query until it is dropped.
pub struct Watch(JoinHandle<()>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Stops what `cancel` stops once the client of a request has closed its side.
pub fn watch(request: &HttpRequest, cancel: Arc<Cancel>) -> Option<Watch> {
    let peer = Peer::of(request)?;
    let look = async move {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if peer.has_closed() {
                return cancel.cancel(Why::HungUp);
            }
        }
    };
    Some(Watch(actix_web::rt::spawn(look)))
}
