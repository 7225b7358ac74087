//! `Content-Encoding`: gzip, deflate, zstd, and the snappy blocks of Prometheus.

use super::body::Held;
use super::error::HttpError;
use actix_web::http::StatusCode;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use std::io::{ErrorKind, Read};

/// Bytes of a body after decompression.
pub const BODY_DECOMPRESSED_BYTES_MAX: usize = 100_000_000;

/// Bytes that a decompressed body begins with, and by how many it grows at most.
const FIRST_BYTES: usize = 64 << 10;
const GROWTH_BYTES_MAX: usize = 8 << 20;

/// How a body is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// gzip, one or several members.
    Gzip,
    /// zlib, which HTTP calls deflate.
    Deflate,
    /// One snappy block.
    Snappy,
    /// zstd, one or several frames.
    Zstd,
}

impl Encoding {
    /// Of a header.
    ///
    /// # Errors
    /// An encoding that is not known.
    pub fn from_header(header: Option<&str>) -> Result<Self, HttpError> {
        Ok(match header.unwrap_or("").trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Self::Identity,
            "gzip" | "x-gzip" => Self::Gzip,
            "deflate" => Self::Deflate,
            "snappy" => Self::Snappy,
            "zstd" => Self::Zstd,
            other => {
                return Err(HttpError::new(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    format!("unsupported content encoding: {other} (use gzip, deflate, zstd or snappy)"),
                ));
            }
        })
    }

    /// The body as it was before, put into `room` if it is encoded; what it takes is held.
    ///
    /// # Errors
    /// It is not encoded like that, it is too large, or there is no room for it now.
    pub fn decode<'a>(
        self,
        body: &'a [u8],
        room: &'a mut Vec<u8>,
        held: &mut Held,
    ) -> Result<&'a [u8], HttpError> {
        *room = match self {
            Self::Identity => return Ok(body),
            Self::Gzip => read("gzip", MultiGzDecoder::new(body), held)?,
            Self::Deflate => read("deflate", ZlibDecoder::new(body), held)?,
            Self::Zstd => match zstd::stream::read::Decoder::with_buffer(body) {
                Ok(decoder) => read("zstd", decoder, held)?,
                Err(error) => return Err(invalid("zstd", error)),
            },
            Self::Snappy => return snappy(body, room, held),
        };
        Ok(room)
    }

    /// How long a body will be, if that is known before.
    pub fn decoded_len(self, body: &[u8]) -> Option<usize> {
        match self {
            Self::Identity => Some(body.len()),
            Self::Snappy => snap::raw::decompress_len(body).ok(),
            Self::Gzip | Self::Deflate | Self::Zstd => None,
        }
    }
}

fn read(name: &str, mut decoder: impl Read, held: &mut Held) -> Result<Vec<u8>, HttpError> {
    let mut plain = Vec::new();
    let mut used = 0;
    loop {
        if used == plain.len() {
            if used > BODY_DECOMPRESSED_BYTES_MAX {
                return Err(unpacked_too_large());
            }
            // One byte more than may be tells that there is more.
            let most = BODY_DECOMPRESSED_BYTES_MAX + 1 - used;
            let more = used.clamp(FIRST_BYTES, GROWTH_BYTES_MAX).min(most);
            held.grow(more)?;
            plain.reserve_exact(more);
            plain.resize(used + more, 0);
        }
        match decoder.read(&mut plain[used..]) {
            Ok(0) => break,
            Ok(read) => used += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(invalid(name, error)),
        }
    }
    if used > BODY_DECOMPRESSED_BYTES_MAX {
        return Err(unpacked_too_large());
    }
    plain.truncate(used);
    Ok(plain)
}

fn snappy<'a>(body: &[u8], room: &'a mut Vec<u8>, held: &mut Held) -> Result<&'a [u8], HttpError> {
    let len = snap::raw::decompress_len(body).map_err(|error| invalid("snappy", error))?;
    // The format makes at most 64 bytes out of 3: a length beyond that is a lie that would cost memory.
    if len > BODY_DECOMPRESSED_BYTES_MAX || len > body.len().saturating_mul(64) {
        return Err(unpacked_too_large());
    }
    held.grow(len)?;
    // What an earlier body left there is overwritten, so only what it did not reach has to be cleared.
    if room.len() < len {
        room.resize(len, 0);
    }
    let written = snap::raw::Decoder::new()
        .decompress(body, &mut room[..len])
        .map_err(|error| invalid("snappy", error))?;
    Ok(&room[..written])
}

fn invalid(name: &str, error: impl std::fmt::Display) -> HttpError {
    HttpError::bad_request(format!("invalid {name} body: {error}"))
}

/// 413, with the limit: InfluxDB's words, which some clients look for, come first.
pub fn too_large(limit: &str, bytes_max: usize) -> HttpError {
    let text = format!("Request Entity Too Large ({limit} {bytes_max})");
    HttpError::new(StatusCode::PAYLOAD_TOO_LARGE, text)
}

fn unpacked_too_large() -> HttpError {
    too_large("body_decompressed_bytes_max", BODY_DECOMPRESSED_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::body::Room;
    use std::io::Write;
    use std::sync::Arc;

    fn encoded(encoding: Encoding, plain: &[u8]) -> Vec<u8> {
        match encoding {
            Encoding::Identity => plain.to_vec(),
            Encoding::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(plain).expect("in memory");
                encoder.finish().expect("in memory")
            }
            Encoding::Deflate => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(plain).expect("in memory");
                encoder.finish().expect("in memory")
            }
            Encoding::Zstd => zstd::encode_all(plain, 1).expect("in memory"),
            Encoding::Snappy => snap::raw::Encoder::new().compress_vec(plain).expect("in memory"),
        }
    }

    fn held() -> Held {
        Room::new(1 << 30, Arc::default()).held()
    }

    #[test]
    fn what_a_body_becomes_is_held_while_it_is_there() {
        let plain = vec![b'x'; 10 << 20];
        for (name, encoding) in ALL.into_iter().skip(1) {
            let body = encoded(encoding, &plain);
            let (room, small) = (
                Room::new(19 << 20, Arc::default()),
                Room::new(5 << 20, Arc::default()),
            );
            let mut held = room.held();
            let mut place = Vec::new();
            let decoded = encoding.decode(&body, &mut place, &mut held).expect(name);
            assert_eq!(decoded.len(), plain.len());
            assert!(room.bytes() >= plain.len(), "{name}: {}", room.bytes());
            let error = encoding
                .decode(&body, &mut Vec::new(), &mut small.held())
                .expect_err(name);
            assert_eq!(error.status, StatusCode::PAYLOAD_TOO_LARGE, "{name}");
            let error = encoding
                .decode(&body, &mut Vec::new(), &mut room.held())
                .expect_err(name);
            assert_eq!(error.status, StatusCode::SERVICE_UNAVAILABLE, "{name}");
            drop(held);
            assert_eq!((room.bytes(), small.bytes()), (0, 0), "{name}");
        }
    }

    const ALL: [(&str, Encoding); 5] = [
        ("identity", Encoding::Identity),
        ("GZIP", Encoding::Gzip),
        ("deflate", Encoding::Deflate),
        ("zstd", Encoding::Zstd),
        ("snappy", Encoding::Snappy),
    ];

    #[test]
    fn every_encoding_is_read_back() {
        let plain = b"cpu,host=a usage=42\n".repeat(1000);
        for (name, encoding) in ALL {
            assert_eq!(Encoding::from_header(Some(name)), Ok(encoding));
            let body = encoded(encoding, &plain);
            // Longer and shorter ones were in the same place before.
            for before in [0, plain.len() / 2, 2 * plain.len()] {
                let mut place = vec![b'?'; before];
                let decoded = encoding.decode(&body, &mut place, &mut held()).expect(name);
                assert_eq!(decoded, plain, "{name} {before}");
            }
            let len = encoding.decoded_len(&body);
            assert!(len.is_none_or(|len| len == plain.len()), "{name}");
        }
        let error = Encoding::from_header(Some("br")).expect_err("unknown");
        assert_eq!(error.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }

    #[test]
    fn broken_and_endless_bodies_are_refused() {
        let zeros = vec![0; BODY_DECOMPRESSED_BYTES_MAX + 1];
        for (name, encoding) in ALL.into_iter().skip(1) {
            let endless = encoded(encoding, &zeros);
            let error = encoding
                .decode(&endless, &mut Vec::new(), &mut held())
                .expect_err(name);
            assert_eq!(error.status, StatusCode::PAYLOAD_TOO_LARGE, "{name}");
            let limit = format!("(body_decompressed_bytes_max {BODY_DECOMPRESSED_BYTES_MAX})");
            assert!(error.text.ends_with(&limit), "{name}: {}", error.text);
            let whole = encoded(encoding, &b"abcdefgh".repeat(99));
            let error = encoding
                .decode(&whole[..whole.len() - 3], &mut Vec::new(), &mut held())
                .expect_err(name);
            assert_eq!(error.status, StatusCode::BAD_REQUEST, "{name}");
        }
        let lie = [0xFF, 0xFF, 0xFF, 0x1F, 0x00];
        assert!(
            Encoding::Snappy
                .decode(&lie, &mut Vec::new(), &mut held())
                .is_err()
        );
    }
}
