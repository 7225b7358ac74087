//! `/write`, `/api/v2/write`, and the paths of the formats' own senders: any registered format, compressed or not, InfluxDB's
//! codes and texts.

use super::Services;
use super::body::Held;
use super::clock::now;
use super::committing::tell;
use super::counters::add;
use super::encoding::Encoding;
use super::error::HttpError;
use super::feed::{Reading, provenance};
use super::parameters::Parameters;
use crate::engine::WriteError;
use crate::ingest::Outcome;
use crate::ingest::framing::split_message;
use crate::ingest::mapping;
use crate::listen::DEFAULT_DATABASE;
use crate::model::{PolicyId, Precision};
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use kymo_plugin_api::{Answer, Decoder, Format, Framing, Options, Origin, Rejection, RowSink, Tally};
use std::sync::Arc;
use std::time::Duration;

/// Larger bodies (unpacked) are decoded on a thread of their own kind, so that others are not kept waiting. At the decoders' speed
/// (`benches/RESULTS.md`) a smaller one takes some hundreds of microseconds.
const INLINE_BYTES_MAX: usize = 256 << 10;
/// The same of bodies that may become a thousand times as large.
const INLINE_ENCODED_BYTES_MAX: usize = 8 << 10;
/// What a compressed body usually becomes.
const ENCODED_TIMES: usize = 8;
/// How long an answer may wait until the ledger has what was rejected.
const SYNC_PATIENCE: Duration = Duration::from_secs(2);
/// URL parameters that are no options of a format.
const GENERAL: &[&str] = &[
    "db",
    "rp",
    "precision",
    "consistency",
    "u",
    "p",
    "org",
    "orgID",
    "bucket",
    "format",
    "framing",
    "mapping",
];

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
    let target = Target {
        policy: policy(&services, &database, parameters.get("rp"))?,
        policy_name: parameters.get("rp").unwrap_or_default().to_string(),
        database,
        by_path: None,
    };
    write(&request, body, &services.into_inner(), &parameters, target).await
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
        let target = Target {
            policy: policy(&services, &database, policy_name.filter(|p| !p.is_empty()))?,
            policy_name: policy_name.unwrap_or_default().to_string(),
            database,
            by_path: None,
        };
        write(
            &request,
            body,
            &services.clone().into_inner(),
            &parameters,
            target,
        )
        .await
    };
    answer.await.map_err(HttpError::v2)
}

/// The path of a format's own senders. They cannot be expected to create a database, so it is made when it is not there.
pub async fn write_native(
    request: HttpRequest,
    body: Payload,
    services: Data<Services>,
) -> Result<HttpResponse, HttpError> {
    let parameters = Parameters::parse(request.query_string());
    let format = services.engine.formats().by_path(request.path());
    let format =
        format.ok_or_else(|| HttpError::not_found(format!("there is nothing at {}", request.path())))?;
    let database = parameters.get("db").unwrap_or(DEFAULT_DATABASE).to_string();
    let made = services
        .policy_of(&database)
        .map_err(|error| HttpError::bad_request(error.to_string()))?;
    let target = Target {
        policy: match parameters.get("rp") {
            Some(name) => policy(&services, &database, Some(name))?,
            None => made,
        },
        policy_name: parameters.get("rp").unwrap_or_default().to_string(),
        database,
        by_path: Some(format.name()),
    };
    write(
        &request,
        body,
        &services.clone().into_inner(),
        &parameters,
        target,
    )
    .await
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

/// Where rows go.
#[derive(Clone)]
struct Target {
    database: String,
    policy: PolicyId,
    /// The policy's name as it was asked for; empty for the default one.
    policy_name: String,
    /// The format whose own path was asked.
    by_path: Option<&'static str>,
}

async fn write(
    request: &HttpRequest,
    body: Payload,
    services: &Arc<Services>,
    parameters: &Parameters,
    target: Target,
) -> Result<HttpResponse, HttpError> {
    let counters = services.counters.http.clone();
    add(&counters.requests, 1);
    let encoding = Encoding::from_header(header(request, CONTENT_ENCODING.as_str()))?;
    let choice = Choice::of(request, services, parameters, &target)?;
    let (body, mut held) = services.bodies.read(request, body).await?;
    add(&counters.bytes, body.len() as u64);
    let decoded_len = encoding.decoded_len(&body);
    let inline = match decoded_len {
        Some(len) => len <= INLINE_BYTES_MAX,
        None => body.len() <= INLINE_ENCODED_BYTES_MAX,
    };
    let decoded_len = decoded_len.unwrap_or_else(|| body.len().saturating_mul(ENCODED_TIMES));
    let native = target.by_path.is_some();
    let peer = request
        .peer_addr()
        .map_or("http".into(), |peer| format!("http {peer}"));
    let work = {
        let services = services.clone();
        move || {
            let received = now();
            let (mut outcome, decoder, reading) =
                decode(&services, &body, (encoding, &mut held), &target, choice, received)?;
            services.bodies.give_back(body);
            let from = provenance(&peer, &target.database, &target.policy_name, &reading);
            let encoded = outcome.batch.take().map(|batch| services.engine.encode(batch));
            let encoded = encoded
                .transpose()
                .map_err(|e| HttpError::from(WriteError::from(e)))?;
            Ok::<_, HttpError>((outcome, encoded, decoder, from, received))
        }
    };
    let (mut outcome, encoded, mut decoder, from, received) = if inline {
        work()?
    } else {
        let _permit = services.bodies.decoding(decoded_len).await?;
        let meter = services.engine.budgets().meter().clone();
        let work = move || {
            let done = work();
            meter.settle();
            done
        };
        let done = services.large.spawn_blocking(work).await;
        done.map_err(|_| HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, "decoding failed"))??
    };
    add(&counters.unparsed, outcome.unparsed);
    add(&counters.dropped, outcome.dropped);
    add(&counters.skipped, outcome.skipped);
    let limits = services.engine.limits();
    let (error, told) = (outcome.error(limits), outcome.told(limits));
    let rejected = outcome.unparsed + outcome.dropped;
    let mut sequence = None;
    if let Some(batch) = encoded {
        sequence = Some(services.commit(batch).await?);
        add(&counters.rows, outcome.rows);
    }
    if rejected > 0 {
        // After the commit: a request that is refused as a whole is sent again as a whole.
        services.keep_rejects(&mut outcome, &from, received);
        rejects_synced(services).await;
    }
    let tally = Tally {
        rows: outcome.rows,
        rejected,
        rejections: &told,
        error: error.as_deref(),
    };
    let mut response = match decoder.answer(&tally).filter(|_| native) {
        Some(answer) => answered(answer),
        None => match error {
            Some(error) => {
                let error = HttpError::bad_request(error).with_rejections(told);
                return Err(HttpError { sequence, ..error });
            }
            None => HttpResponse::NoContent().finish(),
        },
    };
    tell(&mut response, sequence);
    Ok(response)
}

fn answered(answer: Answer) -> HttpResponse {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let mut response = HttpResponse::build(status);
    for (name, value) in answer.headers {
        response.insert_header((name, value));
    }
    if answer.body.is_empty() && answer.content_type.is_empty() {
        return response.finish();
    }
    response.content_type(answer.content_type).body(answer.body)
}

fn header<'a>(request: &'a HttpRequest, name: &str) -> Option<&'a str> {
    request.headers().get(name)?.to_str().ok()
}

/// The format of a request and its options.
struct Choice {
    reading: Reading,
    /// A `Content-Type` chose it: the body has a say, too.
    by_content_type: bool,
    precision: Option<String>,
}

impl Choice {
    /// The path's format, else what `format=` or `Content-Type` ask for; line protocol otherwise.
    fn of(
        request: &HttpRequest,
        services: &Services,
        parameters: &Parameters,
        target: &Target,
    ) -> Result<Self, HttpError> {
        let formats = services.engine.formats();
        let mapped = parameters.get(mapping::OPTION).map(|name| {
            let found = mapping::get(services.engine.catalog(), &target.database, name);
            found.map_err(|error| HttpError::not_found(error.to_string()))
        });
        let mapped = mapped.transpose()?;
        let of_mapping = mapped.as_ref().map(|mapping| mapping.format.as_str());
        let named = target.by_path.or(parameters.get("format")).or(of_mapping);
        let by_type = || header(request, CONTENT_TYPE.as_str()).and_then(|t| formats.by_content_type(t));
        let (format, by_content_type) = match named {
            Some(name) => {
                let format = formats.by_name(name);
                let unknown = || HttpError::bad_request(formats.unknown(name));
                (format.ok_or_else(unknown)?, false)
            }
            None => match by_type() {
                Some(format) => (format, true),
                None => (line_protocol(services)?, false),
            },
        };
        let precision = parameters.get("precision").map(str::to_string);
        if let Some(precision) = &precision
            && Precision::from_name(precision).is_none()
        {
            return Err(HttpError::bad_request(format!(
                "invalid precision {precision:?} (use n, u, ms, s, m or h)"
            )));
        }
        // Where somebody asked for a format by name, a misspelt option must not be ignored. InfluxDB's clients may send
        // anything.
        let strict = target.by_path.is_none() && (parameters.get("format").is_some() || mapped.is_some());
        let mut given = options(format, parameters, strict)?;
        if let Some(name) = parameters.get(mapping::OPTION) {
            given.set(mapping::OPTION, name);
        }
        let mut framing = Framing::Whole;
        if let Some(name) = parameters.get("framing") {
            let known = Framing::from_name(name).filter(|f| format.framings().contains(f));
            framing = known.ok_or_else(|| {
                let names: Vec<&str> = format.framings().iter().map(|f| f.name()).collect();
                HttpError::bad_request(format!("invalid framing {name:?} (use {})", names.join(", ")))
            })?;
        }
        let resolved = mapping::resolve(services.engine.catalog(), &target.database, format.name(), &given);
        Ok(Self {
            reading: Reading {
                format: format.name(),
                given,
                options: resolved.map_err(|error| HttpError::bad_request(error.to_string()))?,
                framing,
                fault: None,
            },
            by_content_type,
            precision,
        })
    }

    /// The decoder, once the body is known.
    fn decoder(&mut self, services: &Services, body: &[u8]) -> Result<Box<dyn Decoder>, HttpError> {
        let format = services.engine.formats().by_name(self.reading.format);
        if self.by_content_type && !format.is_some_and(|format| format.could_be(body)) {
            let format = line_protocol(services)?;
            let mut options = Options::new();
            if let Some(precision) = &self.precision {
                options.set("precision", precision.as_str());
            }
            self.reading = Reading {
                format: format.name(),
                given: options.clone(),
                options,
                framing: Framing::Whole,
                fault: None,
            };
        }
        self.reading.decoder(services).map_err(HttpError::bad_request)
    }
}

fn line_protocol(services: &Services) -> Result<&dyn Format, HttpError> {
    let format = services.engine.formats().by_name("line-protocol");
    format.ok_or_else(|| HttpError::bad_request("this server has no line protocol"))
}

/// The URL's parameters that are options of the format.
pub fn options(format: &dyn Format, parameters: &Parameters, strict: bool) -> Result<Options, HttpError> {
    let mut options = Options::new();
    for (name, value) in parameters.iter() {
        let plain = name.replace('-', "_");
        if format.options().iter().any(|option| option.name == plain) {
            options.set(plain, value);
        } else if strict && !GENERAL.contains(&name) {
            let mut unknown = Options::new();
            unknown.set(name, value);
            unknown
                .refuse_unknown(format)
                .map_err(|error| HttpError::bad_request(error.to_string()))?;
        }
    }
    Ok(options)
}

fn decode(
    services: &Services,
    body: &[u8],
    (encoding, held): (Encoding, &mut Held),
    target: &Target,
    mut choice: Choice,
    now: i64,
) -> Result<(Outcome, Box<dyn Decoder>, Reading), HttpError> {
    let mut room = match encoding {
        Encoding::Snappy => services.bodies.take(encoding.decoded_len(body).unwrap_or(0)),
        _ => Vec::new(),
    };
    let body = encoding.decode(body, &mut room, held)?;
    let mut decoder = choice.decoder(services, body)?;
    let reading = choice.reading;
    let outcome = services.decode(&target.database, target.policy, &reading, now, |sink| {
        match reading.framing {
            Framing::LengthPrefixed => messages(body, decoder.as_mut(), sink),
            _ => decoder.decode(body, sink),
        }
        if decoder.flush_interval().is_some() {
            decoder.flush(now, sink);
        }
    });
    if let Some(failure) = outcome.failed {
        tracing::error!(database = target.database, "{failure}");
        let text = format!("{failure}; nothing of this request was stored");
        return Err(HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, text));
    }
    services.bodies.give_back(room);
    Ok((outcome, decoder, reading))
}

/// Waits until what was rejected is on disk, so that whoever is told of it can rely on finding it; not for ever.
async fn rejects_synced(services: &Services) {
    let Some(synced) = services.engine.rejected().synced() else {
        return;
    };
    let wait = tokio::task::spawn_blocking(move || synced.recv_timeout(SYNC_PATIENCE));
    // Too late, or the thread is gone: the answer says what was wrong in any case.
    let _ = wait.await;
}

/// Decodes messages that have their lengths before them.
fn messages(body: &[u8], decoder: &mut dyn Decoder, sink: &mut dyn RowSink) {
    let mut rest = body;
    while let Some((message, after)) = split_message(rest) {
        decoder.decode(message, sink);
        rest = after;
    }
    if !rest.is_empty() {
        let rejection = Rejection {
            origin: Origin { line: 1, text: rest },
            column: rest.len() as u64 + 1,
            reason: "message is cut off",
            context: &[],
        };
        sink.reject(&rejection);
    }
}
