//! `/rejected`: what was not stored, as JSON; `/rejected/replay` tries it again; DELETE discards it.

use super::Services;
use super::clock::now;
use super::committing::tell;
use super::error::HttpError;
use super::feed::Reading;
use super::parameters::Parameters;
use crate::ingest::{Ingestor, Outcome};
use crate::rejected::{Entry, Filter, Provenance};
use actix_web::http::StatusCode;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use kymo_plugin_api::Options;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};

/// Entries that are committed together.
const GROUP_MAX: usize = 5000;
/// Failures that are told; all are counted.
const FAILURES_TOLD_MAX: usize = 100;

fn filter(request: &HttpRequest) -> Result<(Filter, usize), HttpError> {
    let parameters = Parameters::parse(request.query_string());
    let mut ids = Vec::new();
    for id in parameters.get("id").into_iter().flat_map(|list| list.split(',')) {
        let invalid = || HttpError::bad_request(format!("invalid id {id:?}"));
        ids.push(id.trim().parse().map_err(|_| invalid())?);
    }
    let text = |name: &str| parameters.get(name).map(str::to_string);
    let filter = Filter {
        database: text("db"),
        ids,
        reason: text("reason"),
    };
    Ok((filter, parameters.number("limit")?.unwrap_or(usize::MAX)))
}

/// Runs what blocks, and answers with its JSON.
async fn blocking(
    services: Data<Services>,
    work: impl FnOnce(&Arc<Services>) -> Result<Value, HttpError> + Send + 'static,
) -> Result<HttpResponse, HttpError> {
    let services = services.into_inner();
    let large = services.large.clone();
    let done = large.spawn_blocking(move || work(&services)).await;
    let failed = |_| HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, "reading rejected lines failed");
    let answer = done.map_err(failed)??;
    Ok(HttpResponse::Ok()
        .content_type("application/json")
        .body(format!("{answer}\n")))
}

fn entries(services: &Services, filter: &Filter) -> Result<Vec<Entry>, HttpError> {
    let found = services.engine.rejected().list(filter);
    found.map_err(|error| {
        HttpError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("cannot read rejected lines: {error}"),
        )
    })
}

/// `GET /rejected`: the latest `limit`, oldest first.
pub async fn list(request: HttpRequest, services: Data<Services>) -> Result<HttpResponse, HttpError> {
    let (filter, limit) = filter(&request)?;
    blocking(services, move |services| {
        let entries = entries(services, &filter)?;
        let skip = entries.len().saturating_sub(limit);
        let shown: Vec<Value> = entries.iter().skip(skip).map(shown).collect();
        Ok(json!({"rejected": shown}))
    })
    .await
}

/// `DELETE /rejected`
pub async fn discard(request: HttpRequest, services: Data<Services>) -> Result<HttpResponse, HttpError> {
    let (filter, _) = filter(&request)?;
    blocking(services, move |services| {
        let ids: Vec<u64> = entries(services, &filter)?.iter().map(|entry| entry.id).collect();
        let count = ids.len();
        services.engine.rejected().remove(ids);
        wait_synced(services);
        Ok(json!({"discarded": count}))
    })
    .await
}

/// `POST /rejected/replay`: what can be stored now is, and is no longer among the rejected.
pub async fn replay(request: HttpRequest, services: Data<Services>) -> Result<HttpResponse, HttpError> {
    let (filter, _) = filter(&request)?;
    let committed = Arc::new(Mutex::new(None));
    let tell_committed = committed.clone();
    let mut response = blocking(services, move |services| {
        let entries = entries(services, &filter)?;
        let mut replayed = Replayed::default();
        // Of one origin together: one decoder, one batch.
        let mut rest = entries.as_slice();
        while let Some(first) = rest.first() {
            let same = rest
                .iter()
                .take_while(|entry| entry.provenance == first.provenance);
            let (group, after) = rest.split_at(same.take(GROUP_MAX).count());
            again(services, &first.provenance, group, &mut replayed);
            rest = after;
        }
        wait_synced(services);
        *tell_committed.lock().unwrap_or_else(PoisonError::into_inner) = replayed.sequence;
        Ok(json!({
            "tried": entries.len(),
            "stored": replayed.stored,
            "points": replayed.points,
            "failed": replayed.failed,
            "failures": replayed.failures,
        }))
    })
    .await?;
    let committed = *committed.lock().unwrap_or_else(PoisonError::into_inner);
    tell(&mut response, committed);
    Ok(response)
}

#[derive(Default)]
struct Replayed {
    stored: usize,
    points: u64,
    failed: usize,
    failures: Vec<Value>,
    sequence: Option<u64>,
}

impl Replayed {
    fn fail(&mut self, entry: &Entry, reason: &str) {
        self.failed += 1;
        if self.failures.len() < FAILURES_TOLD_MAX {
            self.failures.push(json!({"id": entry.id, "reason": reason}));
        }
    }
}

/// Tries entries of one origin again, and takes out those that are stored.
fn again(services: &Services, from: &Provenance, group: &[Entry], replayed: &mut Replayed) {
    let mut options = Options::new();
    for (name, value) in &from.options {
        options.set(name, value.as_str());
    }
    let reading = Reading::new(services, &from.database, &from.format, options, false);
    let prepared = reading.and_then(|reading| {
        let decoder = reading.decoder(services)?;
        let made = services
            .policy_of(&from.database)
            .map_err(|error| error.to_string())?;
        let named = || {
            let database = services.engine.catalog().database(&from.database)?;
            database.policy(Some(&from.policy)).map(|policy| policy.id)
        };
        let policy = match from.policy.is_empty() {
            true => made,
            false => named().ok_or_else(|| format!("retention policy not found: {}", from.policy))?,
        };
        Ok((reading, decoder, policy))
    });
    let (reading, mut decoder, policy) = match prepared {
        Ok(prepared) => prepared,
        Err(reason) => return group.iter().for_each(|entry| replayed.fail(entry, &reason)),
    };
    let engine = &services.engine;
    let mut ingestor = Ingestor::new(
        engine.catalog(),
        engine.limits(),
        policy,
        reading.format,
        &reading.options,
        now(),
        engine.shards(),
    );
    let mut good = Vec::new();
    for entry in group {
        if entry.is_cut {
            replayed.fail(entry, "the text was too long to be kept whole");
            continue;
        }
        let (before, rows, skipped) = (ingestor.rejected().0, ingestor.rows(), ingestor.skipped());
        // What has no time of its own came then.
        ingestor.set_now(entry.time);
        decoder.decode(&[entry.context.as_slice(), &entry.text].concat(), &mut ingestor);
        if decoder.flush_interval().is_some() {
            decoder.flush(entry.time, &mut ingestor);
        }
        match ingestor.rejected() {
            (after, Some(reject)) if after > before => {
                let reason = reject.reason.clone();
                replayed.fail(entry, &reason);
            }
            (after, None) if after > before => replayed.fail(entry, "rejected again"),
            // It may need what stood before it; it stays rather than vanish.
            _ if ingestor.rows() == rows && ingestor.skipped() == skipped => {
                replayed.fail(entry, "there is no point in it");
            }
            _ => good.push((entry, ingestor.rows() - rows)),
        }
    }
    let outcome: Outcome = services.finish(ingestor, &from.database);
    match outcome.batch.map(|batch| engine.commit(batch)).transpose() {
        Ok(sequence) => replayed.sequence = replayed.sequence.max(sequence),
        Err(error) => {
            let reason = error.to_string();
            return good.iter().for_each(|(entry, _)| replayed.fail(entry, &reason));
        }
    }
    replayed.stored += good.len();
    replayed.points += good.iter().map(|(_, rows)| rows).sum::<u64>();
    engine
        .rejected()
        .remove(good.iter().map(|(entry, _)| entry.id).collect());
}

fn wait_synced(services: &Services) {
    if let Some(synced) = services.engine.rejected().synced() {
        // An error: the server is going down.
        let _ = synced.recv();
    }
}

fn shown(entry: &Entry) -> Value {
    let from = &entry.provenance;
    let mut time = String::new();
    crate::query::time::format_time(entry.time, &jiff::tz::TimeZone::UTC, &mut time);
    let mut shown = json!({
        "id": entry.id,
        "time": time,
        "source": from.source,
        "database": from.database,
        "policy": from.policy,
        "format": from.format,
        "options": from.options.iter().map(|(n, v)| (n.clone(), Value::from(v.as_str()))).collect::<serde_json::Map<_, _>>(),
        "line": entry.line,
        "column": entry.column,
        "reason": entry.reason,
        "text": String::from_utf8_lossy(&entry.text),
    });
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    if std::str::from_utf8(&entry.text).is_err() {
        shown["text_hex"] = hex(&entry.text).into();
    }
    if !entry.context.is_empty() {
        shown["context"] = String::from_utf8_lossy(&entry.context).into();
    }
    if entry.is_cut {
        shown["cut"] = true.into();
    }
    shown
}
