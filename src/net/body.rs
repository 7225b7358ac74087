//! Bodies of requests: read up to a limit each and a budget together, into buffers that are used again. A fresh buffer of a megabyte
//! costs the kernel as much to clear as its lines cost to decode.
//!
//! Whoever sends slowly holds what it has sent so far. So a body must come on: sooner where room is scarce, so that slow senders
//! cannot keep the others out.

use super::connection::Refused;
use super::encoding::too_large;
use super::error::HttpError;
use super::seats::Seat;
use crate::budget::Meter;
use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::web::Payload;
use futures_util::StreamExt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// Bytes of a body as sent.
pub const BODY_BYTES_MAX: usize = 25_000_000;
/// Buffers that are kept, for bodies as they come and for what they become, and how large they may be.
const KEPT_MAX: usize = 8;
const KEPT_BYTES_MAX: usize = 2 << 20;
/// Large bodies that are decoded at once, for each core; others wait.
const DECODING_PER_CORE_MAX: usize = 2;
/// Bodies up to so many bytes are small.
const SMALL_BYTES_MAX: usize = 64 << 10;
/// A body that is decoded takes so many times its bytes: tables, and the batch that is made of them.
const DECODED_TIMES: usize = 4;
/// Between looks at a body that does not come on.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After so long a body must have come at so many bytes a second.
const PACE: (Duration, usize) = (Duration::from_secs(30), 1 << 10);
/// The same while more than half of what bodies may hold is held.
const PACE_SCARCE: (Duration, usize) = (Duration::from_secs(5), 64 << 10);

/// What bodies hold together.
#[derive(Debug)]
pub struct Room {
    bytes_max: usize,
    held: AtomicUsize,
    meter: Arc<Meter>,
}

impl Room {
    /// So many bytes, as long as the process has not too much in memory, whoever has it.
    pub fn new(bytes_max: usize, meter: Arc<Meter>) -> Arc<Self> {
        Arc::new(Self {
            bytes_max,
            held: AtomicUsize::new(0),
            meter,
        })
    }

    /// Nothing held yet.
    pub fn held(self: &Arc<Self>) -> Held {
        Held {
            room: self.clone(),
            bytes: 0,
        }
    }

    /// Bytes held now.
    pub fn bytes(&self) -> usize {
        self.held.load(Relaxed)
    }

    fn full(&self) -> HttpError {
        let bytes_max = self.bytes_max;
        let text = format!("too many bytes of requests at once (body_bytes {bytes_max}); retry");
        HttpError::new(StatusCode::SERVICE_UNAVAILABLE, text)
    }

    fn pace(&self) -> (Duration, usize) {
        match self.bytes() > self.bytes_max / 2 {
            true => PACE_SCARCE,
            false => PACE,
        }
    }
}

/// What one request holds of it; given back when dropped.
#[derive(Debug)]
pub struct Held {
    room: Arc<Room>,
    bytes: usize,
}

impl Held {
    /// Is there room for a body that is said to be so long? Only looked at: what is announced and never sent must not take room.
    ///
    /// # Errors
    /// 413: never. 503: not now.
    fn could_be(&self, bytes: usize) -> Result<(), HttpError> {
        if bytes > self.room.bytes_max {
            return Err(too_large("body_bytes", self.room.bytes_max));
        }
        let others = self.room.held.load(Relaxed);
        match others > 0 && others.saturating_add(bytes) > self.room.bytes_max {
            true => Err(self.room.full()),
            false => Ok(()),
        }
    }

    /// Holds more.
    ///
    /// # Errors
    /// 413: alone it is more than all may hold. 503: others hold too much now.
    pub fn grow(&mut self, bytes: usize) -> Result<(), HttpError> {
        let bytes_max = self.room.bytes_max;
        if self.bytes.saturating_add(bytes) > bytes_max {
            return Err(too_large("body_bytes", bytes_max));
        }
        // Small ones are let in as long as anything is: those who watch the server send them.
        let small = self.bytes + bytes <= SMALL_BYTES_MAX;
        // The only one there is always let in: else a server whose memory others hold for good would refuse for ever.
        let alone = self.room.held.load(Relaxed) <= self.bytes;
        let short = match (alone, small) {
            (true, _) => Ok(()),
            (_, true) => self.room.meter.go_on(),
            (_, false) => self.room.meter.begin(),
        };
        short.map_err(|short| HttpError::new(StatusCode::SERVICE_UNAVAILABLE, short.to_string()))?;
        let before = self.room.held.fetch_add(bytes, Relaxed);
        if before.saturating_add(bytes) > bytes_max {
            self.room.held.fetch_sub(bytes, Relaxed);
            return Err(self.room.full());
        }
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.held.fetch_sub(self.bytes, Relaxed);
    }
}

/// Leave to decode a body, while it lives.
pub struct Decoding<'a> {
    _room: SemaphorePermit<'a>,
    _core: SemaphorePermit<'a>,
}

/// Buffers for bodies, and what limits them. Shared.
pub struct Bodies {
    free: Mutex<Vec<Vec<u8>>>,
    room: Arc<Room>,
    decoding: Semaphore,
    decoding_max: u32,
    /// KiB of bodies that are decoded at once, however few.
    weights: Semaphore,
    weights_max: u32,
}

impl Bodies {
    /// Bodies that may hold so many bytes together, decoded by so many cores.
    pub fn new(bytes_max: usize, cores: usize, meter: Arc<Meter>) -> Self {
        let decoding_max = u32::try_from(DECODING_PER_CORE_MAX * cores.max(1)).unwrap_or(u32::MAX >> 8);
        // What they become takes as much as all bodies may.
        let weights_max = u32::try_from(bytes_max / DECODED_TIMES / 1024)
            .unwrap_or(u32::MAX)
            .max(1);
        Self {
            free: Mutex::default(),
            room: Room::new(bytes_max, meter),
            decoding: Semaphore::new(decoding_max as usize),
            decoding_max,
            weights: Semaphore::new(weights_max as usize),
            weights_max,
        }
    }

    /// Bytes held now.
    pub fn bytes(&self) -> usize {
        self.room.bytes()
    }

    /// Leave to decode a large body of so many bytes; waits for it. The largest is decoded alone, and each while memory is short.
    ///
    /// # Errors
    /// The server stops.
    pub async fn decoding(&self, bytes: usize) -> Result<Decoding<'_>, HttpError> {
        let stops = |_| HttpError::new(StatusCode::SERVICE_UNAVAILABLE, "the server stops");
        let weight = u32::try_from(bytes / 1024)
            .unwrap_or(u32::MAX)
            .min(self.weights_max);
        let room = self.weights.acquire_many(weight).await.map_err(stops)?;
        // While memory is short each is decoded alone.
        let cores = match self.room.meter.is_tight() {
            true => self.decoding_max,
            false => 1,
        };
        let core = self.decoding.acquire_many(cores).await.map_err(stops)?;
        Ok(Decoding {
            _room: room,
            _core: core,
        })
    }

    /// Bytes that are being decoded, at most.
    pub fn decoding_bytes(&self) -> usize {
        let free = self.weights.available_permits();
        (self.weights_max as usize).saturating_sub(free) * 1024 * DECODED_TIMES
    }

    /// Reads a body up to [`BODY_BYTES_MAX`].
    ///
    /// # Errors
    /// It is longer, it does not come on, there is no room for it, or the client went away.
    pub async fn read(&self, request: &HttpRequest, body: Payload) -> Result<(Vec<u8>, Held), HttpError> {
        let read = self.read_whole(request, body).await;
        // Where its length was not announced, the end of it has to be looked for.
        if read.is_err()
            && request.headers().contains_key(CONTENT_LENGTH)
            && let Some(refused) = Refused::of(request)
        {
            refused.set();
        }
        read
    }

    async fn read_whole(
        &self,
        request: &HttpRequest,
        mut body: Payload,
    ) -> Result<(Vec<u8>, Held), HttpError> {
        let announced = request.headers().get(CONTENT_LENGTH);
        let announced = announced.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        let announced = announced.unwrap_or(0);
        if announced > BODY_BYTES_MAX {
            return Err(too_large("body_bytes_max", BODY_BYTES_MAX));
        }
        let _reading = Seat::of(request).map(Seat::read);
        let mut held = self.room.held();
        held.could_be(announced)?;
        let mut out = self.take(announced);
        out.clear();
        let began = Instant::now();
        loop {
            let next = timeout(LOOK_EVERY, body.next()).await;
            let is_slow = || is_slow(began.elapsed(), out.len(), self.room.pace());
            match next {
                Ok(None) => return Ok((out, held)),
                Ok(Some(chunk)) => {
                    let chunk =
                        chunk.map_err(|e| HttpError::bad_request(format!("cannot read the body: {e}")))?;
                    if out.len() + chunk.len() > BODY_BYTES_MAX {
                        return Err(too_large("body_bytes_max", BODY_BYTES_MAX));
                    }
                    held.grow(chunk.len())?;
                    out.extend_from_slice(&chunk);
                }
                Err(_) if is_slow() => {
                    let text = format!("the body does not come on: {} bytes so far", out.len());
                    return Err(HttpError::new(StatusCode::REQUEST_TIMEOUT, text));
                }
                Err(_) => {}
            }
        }
    }

    /// A buffer with room for so many bytes, with anything in it.
    pub fn take(&self, bytes: usize) -> Vec<u8> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = free
            .iter()
            .enumerate()
            .filter(|(_, buffer)| buffer.capacity() >= bytes);
        // The smallest: large ones are for what becomes large. Of equal ones the newest: the processor's cache may have it yet.
        let fits = fitting
            .rev()
            .min_by_key(|(_, buffer)| buffer.capacity())
            .map(|(at, _)| at);
        // What is announced and never sent must not take room.
        let fresh = || Vec::with_capacity(rounded(bytes).min(KEPT_BYTES_MAX));
        fits.map_or_else(fresh, |at| free.remove(at))
    }

    /// Takes a buffer back that nobody needs any more.
    pub fn give_back(&self, buffer: Vec<u8>) {
        if buffer.capacity() == 0 || buffer.capacity() > KEPT_BYTES_MAX {
            return;
        }
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() >= KEPT_MAX {
            free.remove(0);
        }
        free.push(buffer);
    }
}

/// A little more: a sender's bodies are about equally long, and the next one, a few bytes longer, should fit too.
fn rounded(bytes: usize) -> usize {
    let step = bytes.checked_next_power_of_two().unwrap_or(usize::MAX) / 8;
    bytes.checked_next_multiple_of(step.max(1)).unwrap_or(bytes)
}

/// Has a body of which so much came in a time fallen behind the pace?
fn is_slow(elapsed: Duration, bytes: usize, (grace, per_second): (Duration, usize)) -> bool {
    elapsed > grace && bytes as u64 / elapsed.as_secs().max(1) < per_second as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_used_again_within_limits() {
        let bodies = Bodies::new(1 << 20, 1, Arc::default());
        let mut buffer = bodies.take(1000);
        buffer.extend_from_slice(&[1; 1000]);
        let place = buffer.as_ptr();
        bodies.give_back(buffer);
        let again = bodies.take(900);
        assert_eq!(again.as_ptr(), place);
        bodies.give_back(Vec::with_capacity(KEPT_BYTES_MAX + 1));
        assert!(bodies.take(1).capacity() < KEPT_BYTES_MAX);
        assert!(bodies.take(usize::MAX / 2).capacity() <= KEPT_BYTES_MAX + 1);
        (0..10).for_each(|_| bodies.give_back(Vec::with_capacity(10)));
        assert_eq!(bodies.free.lock().expect("unpoisoned").len(), KEPT_MAX);
    }

    #[test]
    fn bodies_about_as_long_use_the_same_buffer_and_the_newest_first() {
        let bodies = Bodies::new(1 << 20, 1, Arc::default());
        let (one, other) = (bodies.take(600_000), bodies.take(600_000));
        let newest = other.as_ptr();
        bodies.give_back(one);
        bodies.give_back(other);
        let again = bodies.take(600_100);
        assert_eq!(again.as_ptr(), newest);
        for (bytes, want) in [
            (0, 0),
            (1, 1),
            (9, 10),
            (600_000, 655_360),
            (usize::MAX, usize::MAX),
        ] {
            assert_eq!(rounded(bytes), want, "{bytes}");
        }
    }

    #[test]
    fn bodies_hold_no_more_than_they_may_together() {
        let room = Room::new(100, Arc::default());
        let (mut one, mut other) = (room.held(), room.held());
        assert_eq!(one.grow(60), Ok(()));
        let refused = other.grow(50).expect_err("too much together");
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(other.grow(40), Ok(()));
        let refused = other.grow(61).expect_err("too much alone");
        assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(refused.text, "Request Entity Too Large (body_bytes 100)");
        drop(one);
        assert_eq!((room.bytes(), other.grow(60)), (40, Ok(())));
        drop(other);
        assert_eq!(room.bytes(), 0);
    }

    #[test]
    fn while_memory_is_short_one_body_is_let_in_at_a_time() {
        let taken = vec![1_u8; 65 << 20];
        let room = Room::new(1 << 30, Arc::new(Meter::new(0)));
        let (mut one, mut other) = (room.held(), room.held());
        assert_eq!(
            one.grow(1 << 20),
            Ok(()),
            "{}",
            taken.iter().filter(|byte| **byte == 1).count()
        );
        let refused = other.grow(1 << 20).expect_err("memory is short");
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(refused.to_string().contains("64 MiB in memory"), "{refused}");
        assert!(
            other.grow(1).is_err(),
            "beyond the larger share small ones are not let in either"
        );
        assert_eq!(one.grow(1 << 20), Ok(()), "who is in goes on");
        drop(one);
        assert_eq!(other.grow(1 << 20), Ok(()));
    }

    #[test]
    fn while_memory_is_short_bodies_are_decoded_one_by_one() {
        use futures_util::FutureExt;
        let started = |bodies: &Bodies| {
            let mut held = Vec::new();
            while let Some(leave) = bodies.decoding(1 << 10).now_or_never() {
                held.push(leave.unwrap_or_else(|_| panic!("it does not stop")));
            }
            held.len()
        };
        assert_eq!(started(&Bodies::new(1 << 30, 3, Arc::default())), 6);
        // More than the least that a server may have.
        let room = vec![1_u8; 65 << 20];
        let tight = Bodies::new(1 << 30, 3, Arc::new(Meter::new(0)));
        assert_eq!(
            started(&tight),
            1,
            "{}",
            room.iter().filter(|byte| **byte == 1).count()
        );
        assert_eq!(started(&tight), 1, "and again when it has ended");
    }

    #[test]
    fn bodies_are_decoded_by_weight_and_the_largest_alone() {
        use futures_util::FutureExt;
        // A quarter of 16 MiB, however many cores there are.
        let bodies = Bodies::new(16 << 20, 8, Arc::default());
        let begin = |bytes| bodies.decoding(bytes).now_or_never().map(|leave| leave.is_ok());
        let largest = bodies.decoding(25 << 20).now_or_never();
        assert!(largest.is_some() && begin(1 << 10).is_none());
        assert_eq!(bodies.decoding_bytes(), 16 << 20);
        drop(largest);
        let two = [2 << 20, 2 << 20].map(|bytes| bodies.decoding(bytes).now_or_never());
        assert!(two.iter().all(Option::is_some) && begin(1 << 10).is_none());
        drop(two);
        assert_eq!((begin(1 << 10), bodies.decoding_bytes()), (Some(true), 0));
    }

    #[test]
    fn slow_bodies_are_cut_off_sooner_where_room_is_scarce() {
        let room = Room::new(100, Arc::default());
        let seconds = Duration::from_secs;
        for (elapsed, bytes, scarce, want) in [
            (30, 0, false, false),
            (31, 31 << 10, false, false),
            (31, 30 << 10, false, true),
            (5, 0, true, false),
            (10, 640 << 10, true, false),
            (10, 639 << 10, true, true),
        ] {
            let mut held = room.held();
            held.grow(if scarce { 51 } else { 50 }).expect("room");
            assert_eq!(
                is_slow(seconds(elapsed), bytes, room.pace()),
                want,
                "{elapsed} s, {bytes} bytes"
            );
        }
    }
}
