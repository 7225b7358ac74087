//! `/query`: runs statements on threads that may block, and writes their results as JSON or CSV, whole or in chunks.

use super::Services;
use super::clock::now;
use super::counters::add;
use super::error::HttpError;
use super::parameters::Parameters;
use crate::budget::Budget;
use crate::lang::{Params, Query, params_from_json, parse};
use crate::model::Precision;
use crate::query::encode::{ChunkedJson, Csv, Encoder, Event, Indent, Json, TimeFormat};
use crate::query::statements::{QueryOptions, run};
use crate::query::{Cancel, QueryLimits};
use actix_web::http::header::{ACCEPT, CONTENT_TYPE};
use actix_web::http::{Method, StatusCode};
use actix_web::web::{Bytes, Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Rows of a chunk when the client does not say.
const CHUNK_ROWS: usize = 10_000;
/// Rows a chunk may have.
const CHUNK_ROWS_MAX: usize = 1_000_000;
/// Text of an answer is sent in parts of about this size; a shorter answer is sent as a whole.
const PART_BYTES: usize = 128 << 10;
/// Parts that may wait for a slow client.
const PARTS_WAITING_MAX: usize = 4;
/// How long a query may wait for others.
const QUEUE_WAIT: Duration = Duration::from_secs(30);
/// How long a query may run.
const QUERY_TIMEOUT: Duration = Duration::from_secs(300);

/// Stops the query when the client goes away.
struct CancelOnDrop(Arc<Cancel>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// How results are written.
#[derive(Clone)]
struct Output {
    csv: bool,
    pretty: bool,
    times: TimeFormat,
}

/// `GET` and `POST /query`.
pub async fn query(
    request: HttpRequest,
    body: Payload,
    services: Data<Services>,
) -> Result<HttpResponse, HttpError> {
    let mut parameters = Parameters::parse(request.query_string());
    if request.method() == Method::POST {
        let body = services.bodies.read(&request, body).await?;
        let media = request
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .unwrap_or("");
        if media.starts_with("multipart/form-data") {
            for (name, text) in multipart(media, &body) {
                parameters.put(name, text);
            }
        } else if media.starts_with("application/x-www-form-urlencoded") || !body.is_empty() {
            parameters.add(&String::from_utf8_lossy(&body));
        }
    }
    let text = parameters
        .get("q")
        .ok_or_else(|| HttpError::bad_request("missing required parameter \"q\""))?
        .to_string();
    let output = output(&request, &parameters)?;
    let options = QueryOptions {
        database: parameters.get("db").map(str::to_string),
        policy: parameters.get("rp").map(str::to_string),
        params: params(parameters.get("params"))?,
        now: now(),
        limits: QueryLimits {
            memory_bytes_max: services.engine.budgets().get().size(Budget::Query),
            ..QueryLimits::default()
        },
        deadline: Some(Instant::now() + QUERY_TIMEOUT),
        read_only_hint: request.method() == Method::GET,
    };
    let statements = parse(&text, &options.params).map_err(|e| HttpError {
        hint: e.hint.clone(),
        ..HttpError::bad_request(format!("error parsing query: {e}"))
    })?;
    let permit = tokio::time::timeout(QUEUE_WAIT, services.queries.clone().acquire_owned()).await;
    let permit = match permit {
        Ok(Ok(permit)) => permit,
        _ => {
            return Err(HttpError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many queries at once (queries); retry",
            ));
        }
    };
    let chunked = parameters.is_true("chunked");
    let chunk_rows = parameters
        .number("chunk_size")?
        .filter(|n| *n > 0)
        .unwrap_or(CHUNK_ROWS)
        .min(CHUNK_ROWS_MAX);
    let cancel = Arc::new(Cancel::default());
    let guard = CancelOnDrop(cancel.clone());
    let media = output.media();
    let writer = Writer::new(&output, chunked.then_some(chunk_rows));
    let (sender, mut receiver) = mpsc::channel::<Part>(PARTS_WAITING_MAX);
    let services = services.into_inner();
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        answer(&services, &statements, &options, &cancel, writer, &sender);
    });
    let Some(first) = receiver.recv().await else {
        return Err(HttpError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the query failed",
        ));
    };
    let mut response = HttpResponse::Ok();
    response.insert_header((CONTENT_TYPE, media));
    if first.last {
        return Ok(response.body(first.text));
    }
    Ok(response.streaming(parts(first, receiver, guard)))
}

/// A piece of the answer.
struct Part {
    text: String,
    /// Nothing follows.
    last: bool,
}

/// The parts of an answer as a body. When the last one does not come, the body ends in an error, so that the client is
/// not left with half an answer that looks whole.
fn parts(
    first: Part,
    receiver: mpsc::Receiver<Part>,
    guard: CancelOnDrop,
) -> impl futures_util::Stream<Item = Result<Bytes, HttpError>> {
    let state = Some((Some(first), receiver, guard));
    stream::unfold(state, |state| async move {
        let (waiting, mut receiver, guard) = state?;
        let part = match waiting {
            Some(part) => part,
            None => match receiver.recv().await {
                Some(part) => part,
                None => {
                    let status = StatusCode::INTERNAL_SERVER_ERROR;
                    return Some((Err(HttpError::new(status, "the query failed")), None));
                }
            },
        };
        let next = (!part.last).then_some((None, receiver, guard));
        Some((Ok(Bytes::from(part.text)), next))
    })
}

/// Runs the statements, and sends their results as they come.
fn answer(
    services: &Services,
    statements: &Query,
    options: &QueryOptions,
    cancel: &Cancel,
    mut writer: Writer,
    sender: &mpsc::Sender<Part>,
) {
    let began = Instant::now();
    let counters = &services.counters;
    let send = |text: String, last: bool| sender.blocking_send(Part { text, last });
    let mut hung_up = false;
    run(
        statements,
        options,
        services.engine.as_ref(),
        cancel,
        &mut |event| {
            if matches!(event, Event::End { error: Some(_) }) {
                add(&counters.query_errors, 1);
            }
            if let Some(text) = writer.event(event) {
                hung_up = send(text, false).is_err();
            }
            if hung_up {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        },
    );
    add(&counters.queries, 1);
    add(&counters.query_nanoseconds, began.elapsed().as_nanos() as u64);
    if !hung_up {
        // Nobody listens any more when this fails.
        let _ = send(writer.finish(), true);
    }
}

/// Gathers encoded text into parts.
struct Writer {
    encoder: Box<dyn Encoder>,
    indent: Option<Indent>,
    text: String,
    part_bytes: usize,
}

impl Writer {
    fn new(output: &Output, chunk_rows: Option<usize>) -> Self {
        let times = output.times.clone();
        let encoder: Box<dyn Encoder> = match (output.csv, chunk_rows) {
            (true, _) => Box::new(Csv::new(times)),
            (false, None) => Box::new(Json::new(times)),
            (false, Some(rows)) => Box::new(ChunkedJson::new(times, rows)),
        };
        Self {
            encoder,
            indent: (output.pretty && !output.csv).then(Indent::default),
            text: String::new(),
            // A chunk is sent as soon as it is written.
            part_bytes: if chunk_rows.is_some() { 1 } else { PART_BYTES },
        }
    }

    /// Writes what an event adds; gives a part when there is enough for one.
    fn event(&mut self, event: Event) -> Option<String> {
        self.encoder.event(event, &mut self.text);
        (self.text.len() >= self.part_bytes).then(|| {
            let next = String::with_capacity(self.text.len() + self.text.len() / 8);
            let text = std::mem::replace(&mut self.text, next);
            self.finished(text)
        })
    }

    fn finish(mut self) -> String {
        self.encoder.finish(&mut self.text);
        let text = std::mem::take(&mut self.text);
        self.finished(text)
    }

    fn finished(&mut self, text: String) -> String {
        match &mut self.indent {
            None => text,
            Some(indent) => {
                let mut out = String::new();
                indent.push(&text, &mut out);
                out
            }
        }
    }
}

impl Output {
    fn media(&self) -> &'static str {
        if self.csv { "text/csv" } else { "application/json" }
    }
}

fn output(request: &HttpRequest, parameters: &Parameters) -> Result<Output, HttpError> {
    let accept = request
        .headers()
        .get(ACCEPT)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("");
    let epoch = match parameters.get("epoch") {
        None => None,
        Some(name) => Some(Precision::from_name(name).ok_or_else(|| {
            HttpError::bad_request(format!("invalid epoch {name:?} (use ns, u, ms, s, m or h)"))
        })?),
    };
    Ok(Output {
        csv: accept.starts_with("application/csv") || accept.starts_with("text/csv"),
        pretty: parameters.is_true("pretty"),
        times: TimeFormat { epoch },
    })
}

fn params(text: Option<&str>) -> Result<Params, HttpError> {
    let Some(text) = text else {
        return Ok(Params::new());
    };
    params_from_json(text).map_err(|e| HttpError::bad_request(format!("error parsing query parameters: {e}")))
}

/// The parts of a multipart form: names and texts.
fn multipart(media: &str, body: &[u8]) -> Vec<(String, String)> {
    let Some(boundary) = media.split("boundary=").nth(1) else {
        return Vec::new();
    };
    let boundary = format!("--{}", boundary.trim_matches('"'));
    let text = String::from_utf8_lossy(body);
    let part = |part: &str| {
        let (head, content) = part.split_once("\r\n\r\n")?;
        let name = head.split("name=\"").nth(1)?.split('"').next()?;
        Some((
            name.to_string(),
            content.strip_suffix("\r\n").unwrap_or(content).to_string(),
        ))
    };
    text.split(boundary.as_str()).filter_map(part).collect()
}
