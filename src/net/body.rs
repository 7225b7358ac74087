//! Bodies of requests: read up to a limit, into buffers that are used again. A fresh buffer of a megabyte costs the kernel as much
//! to clear as its lines cost to decode.

use super::encoding::too_large;
use super::error::HttpError;
use actix_web::HttpRequest;
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::web::Payload;
use futures_util::StreamExt;
use std::sync::{Mutex, PoisonError};

/// Bytes of a body as sent.
pub const BODY_BYTES_MAX: usize = 25_000_000;
/// Buffers that are kept, and how large they may be.
const KEPT_MAX: usize = 4;
const KEPT_BYTES_MAX: usize = 2 << 20;

/// Buffers for bodies. Shared.
#[derive(Default)]
pub struct Bodies {
    free: Mutex<Vec<Vec<u8>>>,
}

impl Bodies {
    /// Reads a body up to [`BODY_BYTES_MAX`].
    ///
    /// # Errors
    /// It is longer, or the client went away.
    pub async fn read(&self, request: &HttpRequest, mut body: Payload) -> Result<Vec<u8>, HttpError> {
        let announced = request.headers().get(CONTENT_LENGTH);
        let announced = announced.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        let announced = announced.unwrap_or(0);
        if announced > BODY_BYTES_MAX {
            return Err(too_large());
        }
        let mut out = self.take(announced);
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|e| HttpError::bad_request(format!("cannot read the body: {e}")))?;
            if out.len() + chunk.len() > BODY_BYTES_MAX {
                return Err(too_large());
            }
            out.extend_from_slice(&chunk);
        }
        Ok(out)
    }

    fn take(&self, bytes: usize) -> Vec<u8> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = free.iter().position(|buffer| buffer.capacity() >= bytes);
        // What is announced and never sent must not take room.
        let fresh = || Vec::with_capacity(bytes.min(KEPT_BYTES_MAX));
        fits.map_or_else(fresh, |at| free.swap_remove(at))
    }

    /// Takes a buffer back that nobody needs any more.
    pub fn give_back(&self, mut buffer: Vec<u8>) {
        if buffer.capacity() == 0 || buffer.capacity() > KEPT_BYTES_MAX {
            return;
        }
        buffer.clear();
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() >= KEPT_MAX {
            free.remove(0);
        }
        free.push(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_used_again_within_limits() {
        let bodies = Bodies::default();
        let mut buffer = bodies.take(1000);
        buffer.extend_from_slice(&[1; 1000]);
        let place = buffer.as_ptr();
        bodies.give_back(buffer);
        let again = bodies.take(900);
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
        bodies.give_back(Vec::with_capacity(KEPT_BYTES_MAX + 1));
        assert!(bodies.take(1).capacity() < KEPT_BYTES_MAX);
        assert!(bodies.take(usize::MAX / 2).capacity() <= KEPT_BYTES_MAX + 1);
        (0..10).for_each(|_| bodies.give_back(Vec::with_capacity(10)));
        assert_eq!(bodies.free.lock().expect("unpoisoned").len(), KEPT_MAX);
    }
}
