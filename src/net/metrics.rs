//! `/metrics`: every figure as Prometheus text.

use super::Services;
use super::counters::get;
use crate::budget::Budget;
use actix_web::HttpResponse;
use actix_web::web::Data;
use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.family(name, kind, help);
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.one(name, "counter", help, value as f64);
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.one(name, "gauge", help, value as f64);
    }
}

/// `GET /metrics`.
pub async fn metrics(services: Data<Services>) -> HttpResponse {
    let services = services.into_inner();
    // The store's figures may wait for a lock.
    let text = tokio::task::spawn_blocking(move || text(&services))
        .await
        .unwrap_or_default();
    HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4")
        .body(text)
}

/// What each part holds of what it may, and the process of all.
fn shares(services: &Services, out: &mut Text) {
    let engine = &services.engine;
    let (_, _, queued) = engine.journal_figures();
    let (_, active, frozen) = engine.seal_figures();
    let store = engine.store_figures();
    let live = services.hub.figures();
    let live_bytes = live.folded_bytes.load(Relaxed)
        + live.recent_bytes.load(Relaxed)
        + live.remembered_bytes.load(Relaxed)
        + services.hub.waiting_bytes() as u64;
    let used = [
        (Budget::Head, (active + frozen) as u64),
        (Budget::BlockCache, store.cache_bytes),
        (Budget::IndexCache, store.index_cache_bytes),
        (Budget::Spellings, engine.catalog().spellings().bytes() as u64),
        (Budget::Bodies, services.bodies.bytes() as u64),
        (Budget::Received, services.received.bytes() as u64),
        (
            Budget::Waiting,
            (queued + services.received.waiting_bytes()) as u64,
        ),
        (Budget::Live, live_bytes),
        (Budget::AllQueries, engine.query_bytes() as u64),
    ];
    out.family(
        "kymo_budget_used",
        "gauge",
        "What each part that counts its memory holds now; kymo_budget has what it may.",
    );
    for (budget, bytes) in used {
        let _ = writeln!(out.0, "kymo_budget_used{{name=\"{}\"}} {bytes}", budget.name());
    }
    let meter = engine.budgets().meter();
    out.gauge(
        "kymo_memory_bytes",
        "Resident memory of the server.",
        crate::budget::pressure::resident_bytes(),
    );
    out.gauge(
        "kymo_memory_own_bytes",
        "The same without pages of files, which are given back before anything suffers, and with what the kernel and others took of the cgroup that limits the server.",
        meter.resident(),
    );
    out.gauge(
        "kymo_memory_max_bytes",
        "What the server may have in memory: from five eighths on (of its own) it refuses work that needs much.",
        meter.bytes_max(),
    );
    out.counter(
        "kymo_memory_refused_total",
        "Times that work was refused for want of memory.",
        meter.refused(),
    );
    out.gauge(
        "kymo_body_bytes",
        "Bytes that bodies of requests hold.",
        services.bodies.bytes() as u64,
    );
    out.gauge(
        "kymo_decoding_bytes",
        "Bytes that bodies which are being decoded become, about.",
        services.bodies.decoding_bytes() as u64,
    );
}

fn text(services: &Services) -> String {
    let mut out = Text(String::new());
    let (journal, batches, bytes) = services.engine.journal_figures();
    let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
    out.family(
        "kymo_budget",
        "gauge",
        "What each part may use of the machine now.",
    );
    let budgets = services.engine.budgets();
    for budget in crate::budget::ALL {
        let _ = writeln!(
            out.0,
            "kymo_budget{{name=\"{}\"}} {}",
            budget.name(),
            budgets.get().get(budget)
        );
    }
    out.family(
        "kymo_budget_changes_total",
        "counter",
        "Changes of budgets, by reason; SHOW DIAGNOSTICS tells the last ones with figures.",
    );
    let counts = budgets.counts();
    if counts.is_empty() {
        let _ = writeln!(out.0, "kymo_budget_changes_total 0");
    }
    for ((name, cause), count) in counts {
        let _ = writeln!(
            out.0,
            "kymo_budget_changes_total{{name=\"{name}\",reason=\"{}\"}} {count}",
            cause.name()
        );
    }
    shares(services, &mut out);
    out.gauge("kymo_ready", "0 while the journal is replayed.", 1);
    out.gauge(
        "kymo_uptime_seconds",
        "Seconds since the start.",
        services.started.elapsed().as_secs(),
    );
    out.counter(
        "kymo_journal_commits_total",
        "Groups written and synced.",
        journal.commits.load(Relaxed),
    );
    out.counter(
        "kymo_journal_batches_total",
        "Batches in them.",
        journal.batches.load(Relaxed),
    );
    out.counter(
        "kymo_journal_bytes_total",
        "Bytes in them.",
        journal.bytes.load(Relaxed),
    );
    out.counter(
        "kymo_journal_refused_total",
        "Batches accepted and then refused.",
        journal.refused.load(Relaxed),
    );
    out.one(
        "kymo_journal_sync_seconds_total",
        "counter",
        "Time spent writing and syncing.",
        seconds(journal.sync_nanoseconds.load(Relaxed)),
    );
    out.gauge(
        "kymo_journal_segment_bytes",
        "Bytes of segments in use.",
        journal.segment_bytes.load(Relaxed),
    );
    out.gauge("kymo_journal_queue_batches", "Batches that wait.", batches as u64);
    out.gauge(
        "kymo_journal_queue_bytes",
        "Bytes that wait or are being written.",
        bytes as u64,
    );
    out.gauge(
        "kymo_sequence_durable",
        "Last durable sequence.",
        journal.sequence.load(Relaxed),
    );
    out.gauge(
        "kymo_sequence_visible",
        "Last sequence queries see.",
        services.engine.sequence(),
    );
    let recovery = services.engine.recovery();
    out.gauge(
        "kymo_recovery_batches",
        "Batches replayed at the start.",
        recovery.batches,
    );
    out.gauge("kymo_recovery_bytes", "Bytes of them.", recovery.bytes);
    out.gauge(
        "kymo_recovery_peak_bytes",
        "The most that unsealed points and new series took in memory meanwhile.",
        recovery.peak_bytes as u64,
    );
    out.one(
        "kymo_recovery_seconds",
        "gauge",
        "How long opening the data folder took.",
        recovery.took.as_secs_f64(),
    );
    out.gauge(
        "kymo_recovery_damaged",
        "Places in the journal that were damaged at the start.",
        recovery.damaged,
    );
    out.gauge(
        "kymo_lost_sequences",
        "Acknowledged sequences that damage of the journal took, at this start or before.",
        recovery.lost,
    );
    out.gauge(
        "kymo_quarantined_batches",
        "Batches that replay set aside in the data folder.",
        recovery.quarantined,
    );
    let (seal, active, frozen) = services.engine.seal_figures();
    out.gauge(
        "kymo_sequence_sealed",
        "Last sequence in the store.",
        seal.sequence.load(Relaxed),
    );
    out.counter("kymo_seals_total", "Seals.", seal.seals.load(Relaxed));
    out.counter(
        "kymo_seal_failures_total",
        "Seals that failed and were tried again.",
        seal.failures.load(Relaxed),
    );
    out.one(
        "kymo_seal_seconds_total",
        "counter",
        "Time spent sealing.",
        seconds(seal.nanoseconds.load(Relaxed)),
    );
    out.gauge("kymo_head_active_bytes", "Unsealed points.", active as u64);
    out.gauge("kymo_head_frozen_bytes", "Points being sealed.", frozen as u64);
    let store = services.engine.store_figures();
    let merges = services.engine.merge_figures();
    out.counter("kymo_merges_total", "Merges.", merges.merges.load(Relaxed));
    out.counter(
        "kymo_merge_failures_total",
        "Merges that failed.",
        merges.failures.load(Relaxed),
    );
    out.counter(
        "kymo_merge_read_bytes_total",
        "Bytes of runs that merges replaced.",
        merges.bytes_in.load(Relaxed),
    );
    out.counter(
        "kymo_merge_written_bytes_total",
        "Bytes of runs that took their place.",
        merges.bytes_out.load(Relaxed),
    );
    out.counter(
        "kymo_merge_rows_read_total",
        "Rows that merges read.",
        merges.rows_in.load(Relaxed),
    );
    out.counter(
        "kymo_merge_rows_written_total",
        "Rows that they wrote: fewer by those deleted and overwritten.",
        merges.rows_out.load(Relaxed),
    );
    out.one(
        "kymo_merge_seconds_total",
        "counter",
        "Time spent merging.",
        seconds(merges.nanoseconds.load(Relaxed)),
    );
    out.gauge(
        "kymo_merge_running",
        "1 while a merge is under way.",
        merges.running.load(Relaxed),
    );
    let (floor, free, low) = services.engine.room_figures();
    out.gauge(
        "kymo_disk_floor_bytes",
        "Free space below which points are refused.",
        floor,
    );
    out.gauge("kymo_disk_free_bytes", "Free space at the last look.", free);
    out.gauge(
        "kymo_disk_low",
        "1 while points are refused for want of space.",
        u64::from(low),
    );
    out.gauge("kymo_store_runs", "Runs.", store.runs);
    out.gauge("kymo_store_packs", "Packs on disk.", store.packs);
    out.gauge(
        "kymo_store_deletes",
        "Deletes that may still hide something.",
        store.deletes,
    );
    out.gauge("kymo_store_rows", "Rows in them.", store.rows);
    out.gauge("kymo_store_bytes", "Bytes of their values.", store.bytes);
    out.gauge(
        "kymo_store_disk_bytes",
        "Bytes of the store's files.",
        store.disk_bytes,
    );
    out.gauge("kymo_store_files", "The store's files.", store.files);
    out.gauge(
        "kymo_store_healed_files",
        "The store's files that were damaged at the start, and put back from a copy or made anew.",
        store.healed_files,
    );
    out.counter(
        "kymo_store_written_bytes_total",
        "Bytes written.",
        store.written_bytes,
    );
    out.gauge("kymo_cache_bytes", "Bytes in the cache.", store.cache_bytes);
    out.gauge(
        "kymo_index_generations",
        "Generations of the series index.",
        store.index_generations,
    );
    out.gauge(
        "kymo_index_cache_bytes",
        "Bytes in the cache of the series index.",
        store.index_cache_bytes,
    );
    out.counter(
        "kymo_index_cache_hits_total",
        "Values of the series index found in its cache.",
        store.index_cache_hits,
    );
    out.counter(
        "kymo_index_cache_misses_total",
        "Values of the series index read from disk.",
        store.index_cache_misses,
    );
    out.counter("kymo_cache_hits_total", "Cache hits.", store.cache_hits);
    out.counter("kymo_cache_misses_total", "Cache misses.", store.cache_misses);
    let catalog = services.engine.catalog();
    out.gauge("kymo_databases", "Databases.", catalog.databases().len() as u64);
    out.gauge("kymo_series", "Series.", catalog.series_count());
    type Figure = fn(&super::counters::Ingest) -> &std::sync::atomic::AtomicU64;
    let families: [(&str, &str, &str, Figure); 14] = [
        ("kymo_ingest_rows_total", "counter", "Rows accepted.", |i| &i.rows),
        (
            "kymo_ingest_unparsed_total",
            "counter",
            "Lines that could not be read.",
            |i| &i.unparsed,
        ),
        (
            "kymo_ingest_dropped_total",
            "counter",
            "Points that could not be stored: a type clash, a limit.",
            |i| &i.dropped,
        ),
        (
            "kymo_ingest_skipped_total",
            "counter",
            "Values that a format does not store, as NaN.",
            |i| &i.skipped,
        ),
        (
            "kymo_ingest_overloaded_total",
            "counter",
            "Good rows thrown away: the server could not take them.",
            |i| &i.overloaded,
        ),
        (
            "kymo_ingest_retries_total",
            "counter",
            "Batches handed in again.",
            |i| &i.retries,
        ),
        ("kymo_ingest_bytes_total", "counter", "Bytes received.", |i| {
            &i.bytes
        }),
        (
            "kymo_ingest_requests_total",
            "counter",
            "Requests or datagrams.",
            |i| &i.requests,
        ),
        ("kymo_ingest_connections", "gauge", "Connections open.", |i| {
            &i.connections
        }),
        (
            "kymo_ingest_connections_refused_total",
            "counter",
            "Connections closed because too many were open.",
            |i| &i.connections_refused,
        ),
        (
            "kymo_ingest_datagrams_dropped_total",
            "counter",
            "Datagrams that found no room in the server.",
            |i| &i.datagrams_dropped,
        ),
        (
            "kymo_ingest_kernel_dropped_total",
            "counter",
            "Datagrams that found no room in the kernel's receive buffer.",
            |i| &i.kernel_dropped,
        ),
        (
            "kymo_ingest_waiting_bytes",
            "gauge",
            "Datagrams that wait to be decoded.",
            |i| &i.waiting_bytes,
        ),
        (
            "kymo_ingest_receive_buffer_bytes",
            "gauge",
            "Receive buffers as the kernel gave them.",
            |i| &i.receive_buffer_bytes,
        ),
    ];
    let ingests = services.counters.ingests();
    for (name, kind, help, figure) in families {
        out.family(name, kind, help);
        for (way, ingest) in &ingests {
            let _ = writeln!(out.0, "{name}{{from=\"{way}\"}} {}", get(figure(ingest)));
        }
    }
    let ledger = services.engine.rejected();
    let rejected = ledger.counters();
    out.counter(
        "kymo_rejected_recorded_total",
        "Rejected lines that are kept to be tried again.",
        get(&rejected.recorded),
    );
    out.counter(
        "kymo_rejected_unrecorded_total",
        "Rejected lines that could not be kept.",
        get(&rejected.unrecorded),
    );
    out.counter(
        "kymo_rejected_removed_total",
        "Rejected lines that were stored after all, or discarded.",
        get(&rejected.removed),
    );
    out.gauge(
        "kymo_rejected_bytes",
        "Bytes of rejected lines on disk.",
        ledger.bytes(),
    );
    let counters = &services.counters;
    out.counter("kymo_queries_total", "Queries run.", get(&counters.queries));
    out.counter(
        "kymo_query_errors_total",
        "Statements that ended with an error.",
        get(&counters.query_errors),
    );
    out.one(
        "kymo_query_seconds_total",
        "counter",
        "Time spent on queries.",
        seconds(get(&counters.query_nanoseconds)),
    );
    out.gauge(
        "kymo_query_slots_free",
        "Queries that could start at once.",
        services.queries.available_permits() as u64,
    );
    let live = services.hub.figures();
    out.gauge(
        "kymo_http_connections",
        "HTTP connections that are open, those of /live left out.",
        services.seats.open(),
    );
    out.gauge(
        "kymo_http_connections_max",
        "HTTP connections that may be open: beyond them those that wait longest for their client are closed.",
        services.seats.seats_max() as u64,
    );
    out.counter(
        "kymo_http_connections_shed_total",
        "HTTP connections that were closed so that others could come.",
        services.seats.shed(),
    );
    out.gauge(
        "kymo_live_connections",
        "WebSocket connections.",
        get(&counters.live_connections),
    );
    out.gauge(
        "kymo_live_subscriptions",
        "Live subscriptions.",
        live.subscriptions.load(Relaxed),
    );
    out.gauge(
        "kymo_live_computations",
        "Different live subscriptions, and those kept for clients that come back.",
        live.computations.load(Relaxed),
    );
    out.counter(
        "kymo_live_evaluations_total",
        "Times a subscription was looked at again.",
        live.evaluations.load(Relaxed),
    );
    out.counter(
        "kymo_live_folds_total",
        "Windows whose new points were folded into what was known of them.",
        live.folds.load(Relaxed),
    );
    out.gauge(
        "kymo_live_folded_bytes",
        "Memory of what live windows were folded to.",
        live.folded_bytes.load(Relaxed),
    );
    out.counter("kymo_live_rows_total", "Rows pushed.", live.rows.load(Relaxed));
    out.counter(
        "kymo_live_gaps_total",
        "Times the hub was too slow for commits.",
        live.gaps.load(Relaxed),
    );
    out.0
}
