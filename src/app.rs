//! `kymo serve`: opens the data folder, starts the actors, waits for a signal, stops everything in order.

use crate::actors::Stop;
use crate::actors::host::Host;
use crate::actors::http::Http;
use crate::actors::live::Live;
use crate::actors::sockets::Ingest;
use crate::config::{Listen, Machine, ServeArgs, Switch};
use crate::engine::{Engine, EngineOptions};
use crate::host::Sampler;
use crate::live::hub::Hub;
use crate::net::clock::now;
use crate::net::counters::{Counters, Ingest as Figures};
use crate::net::feed::Feed;
use crate::net::query::QUERIES_PER_CORE;
use crate::net::{Services, udp};
use actix::{Actor, Addr};
use anyhow::{Context as _, anyhow};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

/// Sockets and requests get so long to end after a signal.
const STOP_PATIENCE: Duration = Duration::from_secs(8);
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// Runs the server until SIGTERM or SIGINT.
///
/// # Errors
/// The data folder or an address cannot be had.
pub fn serve(args: &ServeArgs) -> anyhow::Result<()> {
    let folder = args.data_folder().map_err(|e| anyhow!(e))?;
    let machine = Machine::look();
    let options = EngineOptions {
        shards: args.shards.unwrap_or(machine.shards()),
        head_bytes: machine.head_bytes(),
        cache_bytes: machine.cache_bytes(),
    };
    let engine = Engine::open(&folder, options)?;
    let hub = Arc::new(Hub::start(engine.clone(), now).context("cannot start the live thread")?);
    let services = Arc::new(Services {
        engine: engine.clone(),
        hub: hub.clone(),
        counters: Counters::default(),
        queries: Arc::new(Semaphore::new(machine.cores * QUERIES_PER_CORE)),
        started: Instant::now(),
    });
    let outcome = actix::System::new().block_on(run(args, &folder, &machine, &services, hub));
    engine.stop();
    outcome
}

/// The actors that run.
struct Actors {
    http: Option<Addr<Http>>,
    sockets: Vec<Addr<Ingest>>,
    host: Option<Addr<Host>>,
    live: Addr<Live>,
}

async fn run(
    args: &ServeArgs,
    folder: &Path,
    machine: &Machine,
    services: &Arc<Services>,
    hub: Arc<Hub>,
) -> anyhow::Result<()> {
    // Before anything is said to listen: a signal from now on stops in order.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let actors = start(args, machine, services, hub).await;
    let actors = match actors {
        Ok(actors) => actors,
        Err(error) => {
            services.hub.stop();
            return Err(error);
        }
    };
    banner(args, folder, machine, services);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    eprintln!("kymo: stopping: taking what has arrived, syncing, sealing");
    if tokio::time::timeout(STOP_PATIENCE, actors.stop()).await.is_err() {
        tracing::warn!("some connections did not end in time and were cut off");
    }
    Ok(())
}

async fn start(
    args: &ServeArgs,
    machine: &Machine,
    services: &Arc<Services>,
    hub: Arc<Hub>,
) -> anyhow::Result<Actors> {
    let feed = |format, database: &str, ingest: fn(&Services) -> &Figures| Feed {
        services: services.clone(),
        format,
        database: database.to_string(),
        ingest,
    };
    let make = |feed, tcp, udp| {
        Ingest::new(feed, tcp, udp)
            .map(Actor::start)
            .map_err(|e| anyhow!(e))
    };
    // Bind everything before anything starts: an address in use must not leave half a server.
    let http = bind("--http", args.http, listen)?;
    let line_tcp = bind("--line-tcp", args.line_tcp, listen)?;
    let line_udp = bind("--line-udp", args.line_udp, udp::bind)?;
    let statsd_tcp = bind("--statsd", args.statsd, listen)?;
    let statsd_udp = bind("--statsd", args.statsd, udp::bind)?;
    let mut sockets = Vec::new();
    if let Some(listener) = line_tcp {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        sockets.push(make(
            feed("line-protocol", &args.line_tcp_database, |s| &s.counters.line_tcp),
            Some(listener),
            None,
        )?);
    }
    if let Some(socket) = line_udp {
        sockets.push(make(
            feed("line-protocol", &args.line_udp_database, |s| &s.counters.line_udp),
            None,
            Some(socket),
        )?);
    }
    if let (Some(listener), udp) = (statsd_tcp, statsd_udp) {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        sockets.push(make(
            feed("statsd", &args.statsd_database, |s| &s.counters.statsd),
            Some(listener),
            udp,
        )?);
    }
    let host = match (args.host_metrics, Sampler::new()) {
        (Switch::Off, _) => None,
        (Switch::On, Ok(sampler)) => {
            Some(Host::new(feed("line-protocol", "host", |s| &s.counters.host), sampler).start())
        }
        (Switch::On, Err(error)) => {
            tracing::warn!("no host metrics: {error}");
            None
        }
    };
    let http = match http {
        Some(listener) => Some(Http::new(listener, services.clone(), machine.cores)?.start()),
        None => None,
    };
    Ok(Actors {
        http,
        sockets,
        host,
        live: Live::new(hub).start(),
    })
}

fn bind<T>(
    flag: &str,
    address: Listen,
    bind: impl FnOnce(SocketAddr) -> std::io::Result<T>,
) -> anyhow::Result<Option<T>> {
    let Listen::At(address) = address else {
        return Ok(None);
    };
    let socket = bind(address);
    socket
        .map(Some)
        .with_context(|| format!("cannot listen on {flag} {address} (choose another address, or off)"))
}

fn listen(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG as i32)?;
    Ok(socket.into())
}

impl Actors {
    /// First the ways in, then the live queries, which may still be told of what came in.
    async fn stop(self) {
        if let Some(host) = self.host {
            let _ = host.send(Stop).await;
        }
        let sockets = self.sockets.iter().map(|socket| socket.send(Stop));
        let http = async {
            if let Some(http) = &self.http {
                let _ = http.send(Stop).await;
            }
        };
        let (_, ()) = tokio::join!(futures_util::future::join_all(sockets), http);
        let _ = self.live.send(Stop).await;
    }
}

fn banner(args: &ServeArgs, folder: &Path, machine: &Machine, services: &Services) {
    const MIB: usize = 1 << 20;
    let options = services.engine.options();
    let recovery = services.engine.recovery();
    println!("kymo {} serves {}", env!("CARGO_PKG_VERSION"), folder.display());
    println!(
        "  http      {:<22} queries, writes, live, metrics (InfluxDB v1 API)",
        args.http.to_string()
    );
    println!(
        "  line tcp  {:<22} line protocol into database {}",
        args.line_tcp.to_string(),
        args.line_tcp_database
    );
    println!(
        "  line udp  {:<22} line protocol into database {}",
        args.line_udp.to_string(),
        args.line_udp_database
    );
    println!(
        "  statsd    {:<22} UDP and TCP, into database {}",
        args.statsd.to_string(),
        args.statsd_database
    );
    match args.host_metrics {
        Switch::On => println!("  host      every 10 s             this machine, into database host"),
        Switch::Off => println!("  host      off"),
    }
    println!(
        "  budget    {} cores, {} MiB memory: {} shards, head {} MiB, cache {} MiB",
        machine.cores,
        machine.memory / MIB as u64,
        options.shards,
        options.head_bytes / MIB,
        options.cache_bytes / MIB
    );
    if recovery.batches > 0 || recovery.damaged > 0 {
        println!(
            "  recovery  {} batches ({} KiB) replayed in {:.1?}, {} damaged",
            recovery.batches,
            recovery.bytes / 1024,
            recovery.took,
            recovery.damaged
        );
    }
    if let (Listen::At(address), Switch::On) = (args.http, args.host_metrics) {
        println!(
            "try: kymo query --url http://{address} --database host 'SELECT mean(usage) FROM cpu WHERE time > now() - 1m GROUP BY cpu'"
        );
    }
}
