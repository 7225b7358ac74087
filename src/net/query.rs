//! `/query`: runs statements on threads that may block, and writes their results as JSON or CSV, whole or in chunks.

use super::Services;
use super::clock::now;
use super::counters::add;
use super::error::HttpError;
use super::parameters::Parameters;
use super::write::read_body;
use crate::lang::{Params, params_from_json, parse};
use crate::model::Precision;
use crate::query::encode::{Csv, TimeFormat, indent, json_result};
use crate::query::statements::{QueryOptions, StatementResult, run};
use crate::query::{Cancel, QueryLimits, Series};
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
/// Chunks that may wait for a slow client.
const CHUNKS_WAITING_MAX: usize = 4;
/// Queries run at once, times the cores.
pub const QUERIES_PER_CORE: usize = 4;
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
        let body = read_body(body).await?;
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
        limits: QueryLimits::default(),
        deadline: Some(Instant::now() + QUERY_TIMEOUT),
        read_only_hint: request.method() == Method::GET,
    };
    parse(&text, &options.params).map_err(|e| HttpError::bad_request(format!("error parsing query: {e}")))?;
    let permit = tokio::time::timeout(QUEUE_WAIT, services.queries.clone().acquire_owned()).await;
    let permit = match permit {
        Ok(Ok(permit)) => permit,
        _ => {
            return Err(HttpError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many queries at once (queries_per_core); retry",
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
    let media = if output.csv {
        "text/csv"
    } else {
        "application/json"
    };
    let services = services.into_inner();
    if chunked && !output.csv {
        let (sender, receiver) = mpsc::channel::<Bytes>(CHUNKS_WAITING_MAX);
        let work = move || {
            let _permit = permit;
            execute(&services, &text, &options, &cancel, &mut |result| {
                for part in split(result, chunk_rows) {
                    let mut json = String::from("{\"results\":[");
                    json_result(&part, &output.times, &mut json);
                    json.push_str("]}");
                    if sender.blocking_send(finished(json, &output).into()).is_err() {
                        return ControlFlow::Break(());
                    }
                }
                ControlFlow::Continue(())
            });
        };
        tokio::task::spawn_blocking(work);
        let chunks = stream::unfold((receiver, guard), |(mut receiver, guard)| async move {
            let chunk = receiver.recv().await?;
            Some((Ok::<Bytes, HttpError>(chunk), (receiver, guard)))
        });
        return Ok(HttpResponse::Ok()
            .insert_header((CONTENT_TYPE, media))
            .streaming(chunks));
    }
    let work = move || {
        let _permit = permit;
        let mut text_out = String::new();
        let mut csv = Csv::default();
        let mut first = true;
        if !output.csv {
            text_out.push_str("{\"results\":[");
        }
        execute(&services, &text, &options, &cancel, &mut |result| {
            if output.csv {
                csv.result(&result, &output.times, &mut text_out);
            } else {
                if !std::mem::take(&mut first) {
                    text_out.push(',');
                }
                json_result(&result, &output.times, &mut text_out);
            }
            ControlFlow::Continue(())
        });
        if output.csv {
            return text_out;
        }
        text_out.push_str("]}");
        finished(text_out, &output)
    };
    let body = tokio::task::spawn_blocking(work).await;
    drop(guard);
    let body = body.map_err(|_| HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, "the query failed"))?;
    Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, media)).body(body))
}

fn execute(
    services: &Services,
    text: &str,
    options: &QueryOptions,
    cancel: &Cancel,
    sink: &mut dyn FnMut(StatementResult) -> ControlFlow<()>,
) {
    let began = Instant::now();
    let counters = &services.counters;
    let outcome = run(text, options, services.engine.as_ref(), cancel, &mut |result| {
        if result.error.is_some() {
            add(&counters.query_errors, 1);
        }
        sink(result)
    });
    debug_assert!(outcome.is_ok(), "the text was parsed before");
    add(&counters.queries, 1);
    add(&counters.query_nanoseconds, began.elapsed().as_nanos() as u64);
}

fn finished(json: String, output: &Output) -> String {
    let mut out = if output.pretty { indent(&json) } else { json };
    out.push('\n');
    out
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

/// Cuts a result into pieces of so many rows; all but the last say that more follow.
fn split(result: StatementResult, rows: usize) -> Vec<StatementResult> {
    let (id, zone) = (result.id, result.zone.clone());
    let mut pieces: Vec<(Series, bool)> = Vec::new();
    for series in result.series {
        let total = series.rows();
        if total <= rows {
            pieces.push((series, false));
            continue;
        }
        for start in (0..total).step_by(rows) {
            let end = total.min(start + rows);
            let width = series.width();
            let times = if series.has_time() {
                series.times[start..end].to_vec()
            } else {
                Vec::new()
            };
            let values = series.values[start * width..end * width].to_vec();
            let piece = Series {
                name: series.name.clone(),
                tags: series.tags.clone(),
                columns: series.columns.clone(),
                times,
                values,
            };
            pieces.push((piece, end < total));
        }
    }
    if pieces.is_empty() {
        return vec![StatementResult {
            series: Vec::new(),
            ..result_of(id, zone, result.messages, result.error)
        }];
    }
    let last = pieces.len() - 1;
    let mut messages = Some(result.messages);
    let mut error = result.error;
    let pieces = pieces.into_iter().enumerate().map(|(i, (series, partial))| {
        let mut piece = result_of(id, zone.clone(), messages.take().unwrap_or_default(), None);
        if i == last {
            piece.error = error.take();
        }
        StatementResult {
            series: vec![series],
            partial,
            more: i < last,
            ..piece
        }
    });
    pieces.collect()
}

fn result_of(
    id: usize,
    zone: Option<jiff::tz::TimeZone>,
    messages: Vec<String>,
    error: Option<String>,
) -> StatementResult {
    StatementResult {
        id,
        zone,
        messages,
        error,
        ..StatementResult::default()
    }
}
