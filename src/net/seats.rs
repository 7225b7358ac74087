//! HTTP connections, and which of them must go when there are too many.
//!
//! A server that takes no more connections than it has memory for can be filled by clients that send nothing, or bit by bit; whoever asks
//! for `/health` then waits until they are cut off. So beyond a number those that wait for their client make room: first those on which
//! no request has come whole, or none after the last, the longest first; then those whose bodies are on their way; then those that have
//! only just come, or been answered, and could hardly have asked yet. Whoever is being answered stays.

use actix_web::HttpRequest;
use rustix::net::{Shutdown, shutdown};
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// Of so many connections one more goes at once: then those after it need not look who must.
const SHED_PART: usize = 64;
/// One part in so many is for those that began to wait last: they go after those whose bodies are on their way.
const FRESH_PART: usize = 8;
/// A rank: it is being answered, and does not go.
const ANSWERED: u64 = u64::MAX;
/// A bit of a rank: its body is being read.
const READING: u64 = 1 << 63;
/// Another: it is one of the last to wait.
const FRESH: u64 = READING | 1 << 62;

/// See the module. Shared.
#[derive(Debug)]
pub struct Seats {
    seats_max: usize,
    taken: Mutex<HashMap<u64, Arc<Taken>>>,
    open: AtomicU64,
    /// Numbers of connections, and of the times when they began to wait.
    turn: AtomicU64,
    shed: AtomicU64,
}

#[derive(Debug)]
struct Taken {
    socket: Arc<OwnedFd>,
    /// The lowest goes first.
    rank: AtomicU64,
}

impl Seats {
    /// For so many connections.
    pub fn new(seats_max: usize) -> Arc<Self> {
        Arc::new(Self {
            seats_max,
            taken: Mutex::default(),
            open: AtomicU64::new(0),
            turn: AtomicU64::new(0),
            shed: AtomicU64::new(0),
        })
    }

    /// For a connection that has come. If it is one too many, others go.
    pub fn take(self: &Arc<Self>, socket: Arc<OwnedFd>) -> Seat {
        let id = self.turn();
        let taken = Arc::new(Taken {
            socket,
            rank: AtomicU64::new(id),
        });
        {
            let mut all = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
            all.insert(id, taken.clone());
            self.open.store(all.len() as u64, Relaxed);
        }
        self.make_room(Some(id));
        Seat {
            seats: self.clone(),
            id,
            taken,
        }
    }

    /// Connections that may be open.
    pub fn seats_max(&self) -> usize {
        self.seats_max
    }

    /// Connections that are open.
    pub fn open(&self) -> u64 {
        self.open.load(Relaxed)
    }

    /// Connections that had to go, since the start.
    pub fn shed(&self) -> u64 {
        self.shed.load(Relaxed)
    }

    fn turn(&self) -> u64 {
        self.turn.fetch_add(1, Relaxed)
    }

    /// Lets go of those that must, but not of `stays`.
    fn make_room(&self, stays: Option<u64>) {
        if self.open() <= self.seats_max as u64 {
            return;
        }
        let mut all = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(surplus @ 1..) = all.len().checked_sub(self.seats_max) else {
            return;
        };
        let rank = |taken: &Taken| taken.rank.load(Relaxed);
        let mut waiting: Vec<(u64, u64)> = all.iter().map(|(id, taken)| (rank(taken), *id)).collect();
        waiting.retain(|(rank, id)| *rank != ANSWERED && Some(*id) != stays);
        // Whoever has just come is one of them.
        let fresh = (self.seats_max / FRESH_PART).max(1) - usize::from(stays.is_some());
        let mut begun: Vec<&mut (u64, u64)> = waiting.iter_mut().filter(|one| one.0 < READING).collect();
        begun.sort_unstable_by_key(|(rank, _)| std::cmp::Reverse(*rank));
        begun.into_iter().take(fresh).for_each(|(rank, _)| *rank |= FRESH);
        let go = (surplus + self.seats_max / SHED_PART).min(waiting.len());
        if go == 0 {
            return;
        }
        waiting.select_nth_unstable(go - 1);
        for (rank, id) in waiting.drain(..go) {
            if let Some(taken) = all.remove(&id) {
                tracing::trace!(rank, "a connection that waits for its client makes room");
                // Whoever reads it finds its end. An error: it has ended already.
                let _ = shutdown(&taken.socket, Shutdown::Both);
                self.shed.fetch_add(1, Relaxed);
            }
        }
        self.open.store(all.len() as u64, Relaxed);
    }
}

/// What a connection has while it is open.
#[derive(Debug)]
pub struct Seat {
    seats: Arc<Seats>,
    id: u64,
    taken: Arc<Taken>,
}

impl Seat {
    /// Of a request.
    pub fn of(request: &HttpRequest) -> Option<&Self> {
        request.conn_data::<Self>()
    }

    /// It is being answered until what this returns is dropped; then it waits for its client.
    pub fn answer(&self) -> Turn {
        self.now(ANSWERED, 0)
    }

    /// A body is being read until what this returns is dropped; then it is being answered.
    pub fn read(&self) -> Turn {
        let turn = self.now(READING | self.seats.turn(), ANSWERED);
        self.seats.make_room(None);
        turn
    }

    fn now(&self, rank: u64, then: u64) -> Turn {
        self.taken.rank.store(rank, Relaxed);
        Turn {
            seats: self.seats.clone(),
            taken: self.taken.clone(),
            then,
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut all = self.seats.taken.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&self.id);
        self.seats.open.store(all.len() as u64, Relaxed);
    }
}

/// What goes on with a connection, while it lives.
#[derive(Debug)]
pub struct Turn {
    seats: Arc<Seats>,
    taken: Arc<Taken>,
    then: u64,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.then == ANSWERED {
            return self.taken.rank.store(ANSWERED, Relaxed);
        }
        self.taken.rank.store(self.seats.turn(), Relaxed);
        self.seats.make_room(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    /// A connection: the client's side, and its seat.
    fn come(seats: &Arc<Seats>) -> (UnixStream, Seat) {
        let (client, server) = UnixStream::pair().expect("a pair");
        client.set_nonblocking(true).expect("a socket");
        (client, seats.take(Arc::new(server.into())))
    }

    fn is_open((client, _): &(UnixStream, Seat)) -> bool {
        let mut client = client;
        client.read(&mut [0]).is_err()
    }

    #[test]
    fn the_longest_waiting_goes_first_and_nobody_who_is_answered() {
        let seats = Seats::new(3);
        let first = come(&seats);
        let answered = come(&seats);
        let turn = answered.1.answer();
        let reading = come(&seats);
        let body = reading.1.read();
        assert_eq!((seats.open(), seats.shed()), (3, 0));
        let second = come(&seats);
        assert!(!is_open(&first) && is_open(&answered) && is_open(&reading) && is_open(&second));
        // Another: who waits goes before whose body comes.
        let third = come(&seats);
        assert!(!is_open(&second) && is_open(&reading) && is_open(&third));
        let asked = third.1.answer();
        let fourth = come(&seats);
        assert!(!is_open(&reading) && is_open(&answered) && is_open(&third) && is_open(&fourth));
        assert_eq!((seats.open(), seats.shed()), (3, 3));
        drop((body, turn, asked, first, second, reading, answered, third, fourth));
        assert_eq!(seats.open(), 0);
    }

    #[test]
    fn who_has_only_just_come_goes_after_those_whose_bodies_are_on_their_way() {
        let seats = Seats::new(16);
        let idle = come(&seats);
        let bodies: Vec<_> = (0..14).map(|_| come(&seats)).collect();
        let turns: Vec<_> = bodies.iter().map(|(_, seat)| seat.read()).collect();
        let asks = come(&seats);
        assert_eq!((seats.open(), seats.shed()), (16, 0));
        let another = come(&seats);
        assert!(
            !is_open(&idle) && is_open(&asks),
            "the longest waiting goes first"
        );
        let body = another.1.read();
        let more = come(&seats);
        assert!(is_open(&asks) && is_open(&more) && !is_open(&bodies[0]));
        assert_eq!((seats.open(), seats.shed()), (16, 2));
        drop((turns, body));
    }

    #[test]
    fn when_all_are_answered_the_first_to_wait_makes_room() {
        let seats = Seats::new(2);
        let all: Vec<_> = (0..3).map(|_| come(&seats)).collect();
        assert_eq!(seats.shed(), 1, "the first had not asked yet");
        let turns: Vec<_> = all[1..].iter().map(|(_, seat)| seat.answer()).collect();
        let more = come(&seats);
        let turn = more.1.answer();
        assert_eq!(seats.shed(), 1);
        assert!(is_open(&all[1]) && is_open(&all[2]) && is_open(&more));
        let last = come(&seats);
        assert!(is_open(&last), "the last that came stays");
        drop(turns);
        assert!(seats.open() <= 2 && is_open(&more) && seats.shed() >= 3);
        drop((turn, last, all));
    }

    #[test]
    fn some_more_go_at_once_where_there_are_many() {
        let seats = Seats::new(640);
        let all: Vec<_> = (0..641).map(|_| come(&seats)).collect();
        assert_eq!((seats.open(), seats.shed()), (630, 11));
        assert_eq!(all.iter().filter(|one| is_open(one)).count(), 630);
        assert!(!is_open(&all[10]) && is_open(&all[11]));
    }
}
