//! `/write` and `/api/v2/write`: any registered format, gzip, InfluxDB's codes and texts.

use super::Services;
use super::counters::add;
use super::error::HttpError;
use super::parameters::Parameters;
use crate::ingest::Outcome;
use crate::model::{PolicyId, Precision};
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use flate2::read::MultiGzDecoder;
use futures_util::StreamExt;
use kymo_plugin_api::{Decoder, Options};
use std::io::Read;
use std::sync::Arc;

/// Bytes of a body as sent.
pub const BODY_BYTES_MAX: usize = 25_000_000;
/// Bytes of a body after decompression.
pub const BODY_DECOMPRESSED_BYTES_MAX: usize = 100_000_000;
/// Larger bodies are decoded on a thread of their own kind, so that others are not kept waiting.
const INLINE_BYTES_MAX: usize = 64 << 10;

/// `POST /write`.
pub async fn write_v1(
    request: HttpRequest,
    body: Payload,
    services: Data<Services>,
) -> Result<HttpResponse, HttpError> {
    let parameters = Parameters::parse(request.query_string());
    let database = parameters
        .get("db")
        .ok_or_else(|| HttpError::bad_request("database is required"))?
        .to_string();
    let policy = policy(&services, &database, parameters.get("rp"))?;
    write(
        &request,
        body,
        &services.into_inner(),
        &parameters,
        database,
        policy,
    )
    .await
}

/// `POST /api/v2/write`.
pub async fn write_v2(
    request: HttpRequest,
    body: Payload,
    services: Data<Services>,
) -> Result<HttpResponse, HttpError> {
    let parameters = Parameters::parse(request.query_string());
    let answer = async {
        let bucket = parameters
            .get("bucket")
            .ok_or_else(|| HttpError::bad_request("bucket is required"))?;
        let (database, policy_name) = match bucket.split_once('/') {
            Some((database, policy)) => (database.to_string(), Some(policy)),
            None => (bucket.to_string(), None),
        };
        let policy = policy(&services, &database, policy_name.filter(|p| !p.is_empty()))?;
        write(
            &request,
            body,
            &services.clone().into_inner(),
            &parameters,
            database,
            policy,
        )
        .await
    };
    answer.await.map_err(HttpError::v2)
}

fn policy(services: &Services, database: &str, name: Option<&str>) -> Result<PolicyId, HttpError> {
    let found = services.engine.catalog().database(database);
    let found = found.ok_or_else(|| HttpError::not_found(format!("database not found: {database:?}")))?;
    match found.policy(name) {
        Some(policy) => Ok(policy.id),
        None => Err(HttpError::not_found(format!(
            "retention policy not found: {}",
            name.unwrap_or("default")
        ))),
    }
}

async fn write(
    request: &HttpRequest,
    body: Payload,
    services: &Arc<Services>,
    parameters: &Parameters,
    database: String,
    policy: PolicyId,
) -> Result<HttpResponse, HttpError> {
    let counters = &services.counters.http;
    add(&counters.requests, 1);
    let (format, decoder) = decoder(request, services, parameters)?;
    let body = read_body(body).await?;
    add(&counters.bytes, body.len() as u64);
    let gzip = match header(request, CONTENT_ENCODING.as_str()) {
        None | Some("" | "identity") => false,
        Some("gzip" | "x-gzip") => true,
        Some(other) => {
            return Err(HttpError::bad_request(format!(
                "unsupported content encoding: {other}"
            )));
        }
    };
    let outcome = if body.len() <= INLINE_BYTES_MAX {
        decode(services, &body, gzip, &database, policy, format, decoder)?
    } else {
        let (services, database) = (services.clone(), database.clone());
        let work = move || decode(&services, &body, gzip, &database, policy, format, decoder);
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|_| HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, "decoding failed"))??
    };
    add(&counters.unparsed, outcome.unparsed);
    add(&counters.dropped, outcome.dropped);
    let error = outcome.error(services.engine.limits());
    let mut sequence = None;
    if let Some(batch) = outcome.batch {
        let batch = services
            .engine
            .encode(batch)
            .map_err(|e| HttpError::from(crate::engine::WriteError::from(e)))?;
        sequence = Some(services.commit(batch).await?);
        add(&counters.rows, outcome.rows);
    }
    if let Some(error) = error {
        return Err(HttpError::bad_request(error));
    }
    let mut response = HttpResponse::NoContent();
    if let Some(sequence) = sequence {
        response.insert_header(("X-Kymo-Sequence", sequence.to_string()));
    }
    Ok(response.finish())
}

fn header<'a>(request: &'a HttpRequest, name: &str) -> Option<&'a str> {
    request.headers().get(name)?.to_str().ok()
}

/// The decoder that `format=` or `Content-Type` asks for; line protocol otherwise.
fn decoder(
    request: &HttpRequest,
    services: &Services,
    parameters: &Parameters,
) -> Result<(&'static str, Box<dyn Decoder>), HttpError> {
    let formats = services.engine.formats();
    let format = match parameters.get("format") {
        Some(name) => formats.by_name(name).ok_or_else(|| {
            HttpError::bad_request(format!(
                "unknown format {name:?}; this server knows {}",
                formats.names()
            ))
        })?,
        None => {
            let by_type = header(request, CONTENT_TYPE.as_str()).and_then(|t| formats.by_content_type(t));
            let default = || formats.by_name("line-protocol");
            by_type
                .or_else(default)
                .ok_or_else(|| HttpError::bad_request("this server has no line protocol"))?
        }
    };
    let mut options = Options::new();
    if let Some(precision) = parameters.get("precision") {
        if Precision::from_name(precision).is_none() {
            return Err(HttpError::bad_request(format!(
                "invalid precision {precision:?} (use n, u, ms, s, m or h)"
            )));
        }
        if format.options().iter().any(|option| option.name == "precision") {
            options.set("precision", precision);
        }
    }
    let decoder = format
        .decoder(&options)
        .map_err(|e| HttpError::bad_request(e.to_string()))?;
    Ok((format.name(), decoder))
}

/// Reads a body up to [`BODY_BYTES_MAX`].
pub async fn read_body(mut body: Payload) -> Result<Vec<u8>, HttpError> {
    let mut out = Vec::new();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|e| HttpError::bad_request(format!("cannot read the body: {e}")))?;
        if out.len() + chunk.len() > BODY_BYTES_MAX {
            return Err(too_large());
        }
        out.extend_from_slice(&chunk);
    }
    Ok(out)
}

fn too_large() -> HttpError {
    HttpError::new(StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large")
}

fn decode(
    services: &Services,
    body: &[u8],
    gzip: bool,
    database: &str,
    policy: PolicyId,
    format: &str,
    mut decoder: Box<dyn Decoder>,
) -> Result<Outcome, HttpError> {
    let mut plain = Vec::new();
    let body = if gzip {
        let limit = BODY_DECOMPRESSED_BYTES_MAX as u64 + 1;
        let read = MultiGzDecoder::new(body).take(limit).read_to_end(&mut plain);
        read.map_err(|e| HttpError::bad_request(format!("invalid gzip body: {e}")))?;
        if plain.len() > BODY_DECOMPRESSED_BYTES_MAX {
            return Err(too_large());
        }
        plain.as_slice()
    } else {
        body
    };
    Ok(services.decode(database, policy, format, |sink, now| {
        decoder.decode(body, sink);
        if decoder.flush_interval().is_some() {
            decoder.flush(now, sink);
        }
    }))
}
