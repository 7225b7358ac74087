//! `/query`: runs statements on threads that may block, and writes their results as JSON or CSV, whole or in chunks.

use super::Services;
use super::clock::now;
use super::committing::{Committing, tell};
use super::counters::add;
use super::error::HttpError;
use super::hangup::{Watch, watch};
use super::parameters::Parameters;
use crate::budget::Budget;
use crate::lang::{Params, Query, Statement, params_from_json, parse};
use crate::model::Precision;
use crate::query::at_once;
use crate::query::encode::{ChunkedJson, Csv, Encoder, Event, Indent, Json, TimeFormat};
use crate::query::statements::{QueryOptions, run};
use crate::query::{Cancel, QueryError, QueryLimits, RollupUse, Why};
use actix_web::http::header::{ACCEPT, CONTENT_TYPE};
use actix_web::http::{Method, StatusCode};
use actix_web::web::{Bytes, Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream;
use std::cell::Cell;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// Rows of a chunk when the client does not say.
const CHUNK_ROWS: usize = 10_000;
/// Rows a chunk may have.
const CHUNK_ROWS_MAX: usize = 1_000_000;
/// Text of an answer is sent in parts of about this size; a shorter answer is sent as a whole.
const PART_BYTES: usize = 128 << 10;
/// Parts, of up to twice that, that may wait for a slow client.
const PARTS_WAITING_MAX: usize = 4;
/// How long a query may wait for others.
const QUEUE_WAIT: Duration = Duration::from_secs(30);
/// How often a query that waits looks whether it was stopped.
const STOPPED_EVERY: Duration = Duration::from_millis(100);

/// Stops the query when the client goes away: when nobody asks for its answer any more, or the connection is seen closed.
struct CancelOnDrop(
    Arc<Cancel>,
    #[allow(dead_code, reason = "it looks while it lives")] Option<Watch>,
);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel(Why::HungUp);
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
        let (body, _held) = services.bodies.read(&request, body).await?;
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
            ..services.query_limits
        },
        deadline: Some(Instant::now() + services.query_limits.timeout),
        rollups: rollups(parameters.get("rollups"))?,
        read_only_hint: request.method() == Method::GET,
    };
    let statements = parse(&text, &options.params).map_err(|e| HttpError {
        hint: e.hint.clone(),
        ..HttpError::bad_request(format!("error parsing query: {e}"))
    })?;
    let cancel = Arc::new(Cancel::default());
    let guard = CancelOnDrop(cancel.clone(), watch(&request, cancel.clone()));
    let database = options.database.as_deref().unwrap_or("");
    let ticket = services.engine.running().enter(&text, database, &cancel);
    // Whoever wants to see or stop what keeps the server busy does not wait behind it.
    let of_queries = |s: &Statement| matches!(s, Statement::ShowQueries | Statement::KillQuery(_));
    let permit = match statements.statements.iter().all(of_queries) {
        true => None,
        false => Some(permit(&services, &cancel).await?),
    };
    ticket.runs();
    let chunked = parameters.is_true("chunked");
    let chunk_rows = parameters
        .number("chunk_size")?
        .filter(|n| *n > 0)
        .unwrap_or(CHUNK_ROWS)
        .min(CHUNK_ROWS_MAX);
    let media = output.media();
    let writer = Writer::new(&output, chunked.then_some(chunk_rows));
    let (sender, mut receiver) = mpsc::channel::<Part>(PARTS_WAITING_MAX);
    let services = services.into_inner();
    if !chunked && at_once::may_be_small(&statements) {
        let writer = Writer::new(&output, None);
        if let Some(text) = answer_at_once(&services, &statements, &options, &cancel, writer) {
            let mut response = HttpResponse::Ok();
            return Ok(response.insert_header((CONTENT_TYPE, media)).body(text));
        }
    }
    let large = services.large.clone();
    large.spawn_blocking(move || {
        let (_permit, _ticket) = (permit, ticket);
        answer(&services, &statements, &options, &cancel, writer, &sender);
        services.engine.budgets().meter().settle();
    });
    let Some(first) = receiver.recv().await else {
        return Err(HttpError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the query failed",
        ));
    };
    if let Some(text) = first.busy {
        return Err(HttpError::new(StatusCode::SERVICE_UNAVAILABLE, text));
    }
    let mut response = HttpResponse::Ok();
    response.insert_header((CONTENT_TYPE, media));
    let sequence = first.sequence;
    let mut response = match first.last {
        true => response.body(first.text),
        false => response.streaming(parts(first, receiver, guard)),
    };
    tell(&mut response, sequence);
    Ok(response)
}

/// Leave to run beside others; waits for it, as long as it may and the query is not stopped.
async fn permit(services: &Services, cancel: &Cancel) -> Result<OwnedSemaphorePermit, HttpError> {
    let busy = |text: String| HttpError::new(StatusCode::SERVICE_UNAVAILABLE, text);
    if let Ok(permit) = services.queries.clone().try_acquire_owned() {
        return Ok(permit);
    }
    // The one that asks is listed already.
    let waiting_max = services.queries_waiting_max;
    if services.engine.running().waiting() > waiting_max {
        return Err(busy(format!(
            "too many queries wait (queries_waiting_max {waiting_max}); retry"
        )));
    }
    let patience = Instant::now() + QUEUE_WAIT;
    let mut permit = pin!(services.queries.clone().acquire_owned());
    loop {
        match tokio::time::timeout(STOPPED_EVERY, &mut permit).await {
            Ok(Ok(permit)) => return Ok(permit),
            Ok(Err(_)) => return Err(busy("the server stops".into())),
            Err(_) => {}
        }
        if let Some(why) = cancel.why() {
            return Err(busy(QueryError::Cancelled(why).to_string()));
        }
        if Instant::now() >= patience {
            let queries = services.engine.budgets().get().size(Budget::Queries);
            return Err(busy(format!(
                "too many queries at once (queries {queries}); retry"
            )));
        }
    }
}

/// A piece of the answer.
struct Part {
    text: Bytes,
    /// Nothing follows.
    last: bool,
    /// What statements have committed by now.
    sequence: Option<u64>,
    /// Instead of an answer: there is no room for the query now.
    busy: Option<String>,
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
        Some((Ok(part.text), next))
    })
}

/// The whole answer of a small query, on this thread, which others wait for; `None`: it is not small, or fails, which is for
/// [`answer`] to tell.
fn answer_at_once(
    services: &Services,
    statements: &Query,
    options: &QueryOptions,
    cancel: &Cancel,
    mut writer: Writer,
) -> Option<Vec<u8>> {
    let began = Instant::now();
    let deadline = began + at_once::TIME_MAX;
    let options = QueryOptions {
        limits: at_once::limits(&options.limits),
        deadline: Some(options.deadline.map_or(deadline, |real| real.min(deadline))),
        ..options.clone()
    };
    let mut is_whole = true;
    let mut sink = |event| {
        is_whole &= !matches!(event, Event::End { error: Some(_) });
        // More than a part is for those who can wait for a slow client.
        is_whole &= writer.event(event).is_none();
        match is_whole {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    };
    let target = services.engine.as_ref();
    let ran = catch_unwind(AssertUnwindSafe(|| {
        run(statements, &options, target, cancel, &mut sink)
    }));
    if ran.is_err() || !is_whole {
        return None;
    }
    let counters = &services.counters;
    add(&counters.queries, 1);
    add(&counters.query_nanoseconds, began.elapsed().as_nanos() as u64);
    Some(writer.finish())
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
    let target = Committing::new(&services.engine);
    let was_sent = Cell::new(false);
    // However long a chunk is, only so much of it waits for the client.
    let send = |text: Vec<u8>, last: bool| {
        let mut text = Bytes::from(text);
        loop {
            let part = text.split_to(text.len().min(2 * PART_BYTES));
            let last = last && text.is_empty();
            let part = Part {
                text: part,
                last,
                sequence: target.sequence(),
                busy: None,
            };
            was_sent.set(true);
            if !send(sender, part, cancel, options.deadline) {
                return false;
            }
            if text.is_empty() {
                return true;
            }
        }
    };
    let (mut hung_up, mut is_busy, mut busy) = (false, false, None);
    run(statements, options, &target, cancel, &mut |event| {
        is_busy |= matches!(event, Event::Busy);
        if let Event::End { error: Some(error) } = &event {
            add(&counters.query_errors, 1);
            busy = is_busy.then(|| error.clone());
        }
        if let Some(text) = writer.event(event) {
            hung_up = !send(text, false);
        }
        if hung_up {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    add(&counters.queries, 1);
    add(&counters.query_nanoseconds, began.elapsed().as_nanos() as u64);
    // The only statement: whoever asks is told to ask again, as long as nothing was said and nothing is done.
    let busy =
        busy.filter(|_| statements.statements.len() == 1 && !was_sent.get() && target.sequence().is_none());
    if busy.is_some() {
        let part = Part {
            text: Bytes::new(),
            last: true,
            sequence: None,
            busy,
        };
        _ = self::send(sender, part, cancel, options.deadline);
    } else if !hung_up {
        // Nobody listens any more when this fails.
        let _ = send(writer.finish(), true);
    }
}

/// Hands a part to a client that may be slow; false: nobody takes it any more, or not in time.
fn send(sender: &mpsc::Sender<Part>, part: Part, cancel: &Cancel, deadline: Option<Instant>) -> bool {
    let part = match sender.try_send(part) {
        Ok(()) => return true,
        Err(TrySendError::Closed(_)) => return false,
        Err(TrySendError::Full(part)) => part,
    };
    let runtime = tokio::runtime::Handle::current();
    loop {
        let room = tokio::time::timeout(STOPPED_EVERY, sender.reserve());
        match runtime.block_on(room) {
            Ok(Ok(room)) => {
                room.send(part);
                return true;
            }
            Ok(Err(_)) => return false,
            Err(_) => {}
        }
        // An answer that is not taken must not hold its place, or what it reads, for ever.
        if cancel.is_cancelled() || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return false;
        }
    }
}

/// Gathers encoded text into parts.
struct Writer {
    encoder: Box<dyn Encoder>,
    indent: Option<Indent>,
    text: Vec<u8>,
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
            text: Vec::new(),
            // A chunk is sent as soon as it is written.
            part_bytes: if chunk_rows.is_some() { 1 } else { PART_BYTES },
        }
    }

    /// Writes what an event adds; gives a part when there is enough for one.
    fn event(&mut self, event: Event) -> Option<Vec<u8>> {
        self.encoder.event(event, &mut self.text);
        (self.text.len() >= self.part_bytes).then(|| {
            let next = Vec::with_capacity(self.text.len() + self.text.len() / 8);
            let text = std::mem::replace(&mut self.text, next);
            self.finished(text)
        })
    }

    fn finish(mut self) -> Vec<u8> {
        self.encoder.finish(&mut self.text);
        let text = std::mem::take(&mut self.text);
        self.finished(text)
    }

    fn finished(&mut self, text: Vec<u8>) -> Vec<u8> {
        match &mut self.indent {
            None => text,
            Some(indent) => {
                let mut out = Vec::new();
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

/// `rollups`: may answers come from states of rollups?
fn rollups(text: Option<&str>) -> Result<RollupUse, HttpError> {
    match text.unwrap_or("auto") {
        "" | "auto" => Ok(RollupUse::Auto),
        "off" => Ok(RollupUse::Off),
        "always" => Ok(RollupUse::Always),
        _ => Err(HttpError::bad_request("rollups must be auto, off or always")),
    }
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
