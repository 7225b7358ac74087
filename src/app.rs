//! `kymo serve`: opens the data folder, starts the actors, waits for a signal, stops everything in order.

use crate::actors::Stop;
use crate::actors::host::Host;
use crate::actors::http::Http;
use crate::actors::live::Live;
use crate::actors::sockets::{Flush, Ingest, Sockets};
use crate::budget::governor::Governor;
use crate::budget::pressure::observe;
use crate::budget::turns::Turns;
use crate::budget::{Budget, Budgets, Machine, Meter, Size, allocator, niceness};
use crate::config::{Listen, ServeArgs, Switch};
use crate::engine::{Engine, EngineOptions, OpenError, lock};
use crate::host::Sampler;
use crate::ingest::TablePool;
use crate::listen::{ListenAddress, Transport};
use crate::live::continuous::Continuous;
use crate::live::hub::Hub;
use crate::live::pace::Share;
use crate::net::body::Bodies;
use crate::net::clock::now;
use crate::net::counters::Counters;
use crate::net::datagrams::Source;
use crate::net::feed::{Feed, Reading};
use crate::net::http::seats as http_seats;
use crate::net::live::Patience;
use crate::net::received::Received;
use crate::net::starting::Starting;
use crate::net::stream::{Bound, Shared};
use crate::net::{Services, udp, unix};
use crate::query::QueryLimits;
use crate::refresh::Refresh;
use actix::{Actor, Addr};
use anyhow::{Context as _, anyhow};
use kymo_plugin_api::Options;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

/// Sockets and requests get so long to end after a signal.
const STOP_PATIENCE: Duration = Duration::from_secs(8);
/// Queries get so long of it before they are stopped.
const QUERIES_PATIENCE: Duration = Duration::from_secs(2);
/// Between looks at the machine's memory and power.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;
/// While the processor is short, one part in so many of its time is for emptying sockets of datagrams,
const RECEIVING_PART: u32 = 8;
/// and one in so many for what refused clients still send.
const THROWING_AWAY_PART: u32 = 8;
/// Sockets that share a UDP address unless more are asked for.
const READERS_MAX: usize = 4;
/// Bytes of receive buffer that are asked for a UDP socket.
const RECEIVE_BYTES_MIN: u64 = 128 << 10;
const RECEIVE_BYTES_MAX: u64 = 16 << 20;

/// Runs the server until SIGTERM or SIGINT.
///
/// # Errors
/// The data folder or an address cannot be had.
pub fn serve(args: &ServeArgs) -> anyhow::Result<()> {
    let machine = args.machine();
    crate::budget::machine::check_address_space().map_err(|e| anyhow!(e))?;
    crate::telemetry::end_with_vital_threads();
    match crate::budget::machine::raise_open_files() {
        Some(files) => tracing::debug!(files, "files that may be open"),
        None => tracing::debug!("the limit of open files stays as it is"),
    }
    let folder = args.data_folder().map_err(|e| anyhow!(e))?;
    let budgets = Budgets::new(&machine, &args.overrides());
    let queries = budgets.size(Budget::Queries);
    let body_bytes = budgets.size(Budget::Bodies);
    let received_bytes = budgets.size(Budget::Received);
    let waiting_bytes = budgets.size(Budget::Waiting);
    let mut options = EngineOptions::measured(budgets.clone(), Meter::new(machine.memory), now);
    options.disk_floor_bytes = args.disk_floor;
    let http = listen_early(args, &folder, &options)?;
    let engine = Engine::open(&folder, options)?;
    let governor = Governor::new(budgets, args.overrides());
    let stop_governing = govern(governor, engine.clone()).context("cannot start the budgets' thread")?;
    let share = Share {
        percent: args.live_cpu,
    };
    let hub = Arc::new(Hub::start(engine.clone(), share, now).context("cannot start the live thread")?);
    let seats = http_seats(engine.budgets().meter().bytes_max(), machine.cores);
    // Half of the connections are left for those who do not wait for their turn to query.
    let queries_waiting_max = (args.queries_waiting as usize).min(seats.seats_max() / 2);
    // Threads of their own: a thread that has become nicer stays so, and others answer whoever asks for /metrics.
    let large = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("kymo-large")
        .on_thread_start(|| niceness::set(niceness::LARGE))
        .enable_time()
        .build()
        .context("cannot start the threads of large work")?;
    let services = Arc::new(Services {
        large: large.handle().clone(),
        engine: engine.clone(),
        hub: hub.clone(),
        counters: Counters::default(),
        bodies: Bodies::new(body_bytes, machine.cores, engine.budgets().meter().clone()),
        received: Received::new(received_bytes, waiting_bytes),
        receiving: Arc::new(Turns::new(RECEIVING_PART)),
        throwing_away: Arc::new(Turns::new(THROWING_AWAY_PART)),
        tables: TablePool::default(),
        queries: Arc::new(Semaphore::new(queries)),
        query_limits: QueryLimits {
            groups_max: args.query_groups as usize,
            buckets_max: args.query_buckets as usize,
            timeout: Duration::from_secs(args.query_timeout),
            ..QueryLimits::default()
        },
        queries_waiting_max,
        seats,
        head_patience: Duration::from_secs(args.head_patience),
        live_patience: Patience {
            ping: Duration::from_secs(args.live_ping),
            send: Duration::from_secs(args.live_patience),
        },
        started: Instant::now(),
    });
    let sockets = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(machine.cores)
        .thread_name("kymo-sockets")
        .on_thread_start(|| niceness::set(niceness::LARGE))
        .enable_all()
        .build()
        .context("cannot start the threads of sockets")?;
    let running = run(args, &folder, &machine, &services, hub, sockets.handle(), http);
    let outcome = actix::System::new().block_on(running);
    sockets.shutdown_background();
    large.shutdown_background();
    drop(stop_governing);
    engine.stop();
    outcome
}

/// HTTP's socket, and what answers on it until the server does.
struct HttpSocket {
    listener: std::net::TcpListener,
    starting: Starting,
}

/// HTTP listens before the data folder is opened: whoever asks is told how far that is.
fn listen_early(
    args: &ServeArgs,
    folder: &Path,
    options: &EngineOptions,
) -> anyhow::Result<Option<HttpSocket>> {
    let bound = bind("--http", args.http, listen);
    if bound.is_err()
        && let Err(error @ OpenError::InUse { .. }) = lock(folder)
    {
        // The same server a second time: the folder says more than the address.
        return Err(error.into());
    }
    let Some(listener) = bound? else { return Ok(None) };
    let starting = Starting::start(listener.try_clone()?, options.progress.clone());
    let starting = starting.context("cannot start the thread that answers while starting")?;
    Ok(Some(HttpSocket { listener, starting }))
}

/// Looks at the machine now and then and lets the budgets follow it, until what it returns is dropped.
fn govern(mut governor: Governor, engine: Arc<Engine>) -> std::io::Result<crossbeam_channel::Sender<()>> {
    let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
    let thread = std::thread::Builder::new().name("kymo-budget".into());
    thread.spawn(move || {
        while let Err(crossbeam_channel::RecvTimeoutError::Timeout) = stopped.recv_timeout(LOOK_EVERY) {
            if engine.budgets().meter().is_half_full() {
                allocator::give_back();
            }
            let seen = observe(engine.budgets().meter());
            let changes = governor.step(Instant::now(), &seen);
            if changes.is_empty() {
                continue;
            }
            for change in &changes {
                tracing::warn!(
                    budget = change.budget.name(),
                    from = change.from,
                    to = change.to,
                    "{}",
                    change.reason
                );
            }
            engine.change_budgets(governor.budgets(), changes, now());
        }
    })?;
    Ok(stop)
}

/// The actors that run.
struct Actors {
    http: Option<Addr<Http>>,
    sockets: Vec<Addr<Ingest>>,
    flushes: Vec<Addr<Flush>>,
    host: Option<Addr<Host>>,
    live: Addr<Live>,
}

async fn run(
    args: &ServeArgs,
    folder: &Path,
    machine: &Machine,
    services: &Arc<Services>,
    hub: Arc<Hub>,
    sockets: &Handle,
    http: Option<HttpSocket>,
) -> anyhow::Result<()> {
    // Before anything is said to listen: a signal from now on stops in order.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let actors = start(args, machine, services, hub, sockets, http).await;
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
    let running = services.engine.running().clone();
    actix::spawn(async move {
        tokio::time::sleep(QUERIES_PATIENCE).await;
        running.stop();
    });
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
    sockets: &Handle,
    http: Option<HttpSocket>,
) -> anyhow::Result<Actors> {
    // Bind everything before anything starts: an address in use must not leave half a server.
    let mut unix = Vec::new();
    let (mut unbound, mut udp_sockets) = (Vec::new(), 0);
    for way in ways(args) {
        let cannot = || format!("cannot listen on {} (choose another address, or off)", way.flag);
        if let ("http", Transport::Unix(path)) = (way.address.format.as_str(), &way.address.transport) {
            unix.push(unix::listen(path, way.address.socket.mode).with_context(cannot)?);
            continue;
        }
        let feed = Feed::new(services, &way.address, &way.name).map_err(|e| anyhow!("{}: {e}", way.flag))?;
        let gathers = feed.decoder().map_err(|e| anyhow!(e))?.flush_interval();
        let readers = match (way.address.socket.readers, gathers) {
            (0, Some(_)) => 1,
            (0, None) => (machine.cores / 2).clamp(1, READERS_MAX),
            (readers, _) => readers,
        };
        if matches!(way.address.transport, Transport::Udp(_)) {
            udp_sockets += readers;
        }
        unbound.push((way, Arc::new(feed), readers));
    }
    let receive_bytes = receive_bytes(machine.memory, udp_sockets);
    let mut bound = Vec::new();
    for (way, feed, readers) in unbound {
        let cannot = || format!("cannot listen on {} (choose another address, or off)", way.flag);
        let sockets = bind_way(&way.address, readers, receive_bytes).with_context(cannot)?;
        bound.push((way.address, feed, sockets));
    }
    let mut gathered: Vec<(String, Shared)> = Vec::new();
    let engine = services.engine.clone();
    let continuous =
        Continuous::start(engine, now).context("cannot start the thread of continuous queries")?;
    let refresh =
        Refresh::start(services.engine.clone(), now).context("cannot start the thread of rollups")?;
    let mut actors = Actors {
        http: None,
        sockets: Vec::new(),
        flushes: Vec::new(),
        host: None,
        live: Live::new(hub, Arc::new(continuous), Arc::new(refresh)).start(),
    };
    for (address, feed, bound) in bound {
        let decoder = feed.decoder().map_err(|e| anyhow!(e))?;
        let interval = decoder.flush_interval().map(Duration::from_nanos);
        let shared = match interval {
            None => None,
            Some(interval) => {
                // What two sockets gather for one database is one: two flushes of a series would overwrite each other.
                let key = format!(
                    "{} {} {:?}",
                    feed.reading.format, feed.database, feed.reading.options
                );
                match gathered.iter().find(|(known, _)| *known == key) {
                    Some((_, shared)) => Some(shared.clone()),
                    None => {
                        let shared: Shared = Arc::new(Mutex::new(decoder));
                        let flush = Flush::new(feed.clone(), shared.clone(), interval)?;
                        actors.flushes.push(flush.start());
                        gathered.push((key, shared.clone()));
                        Some(shared)
                    }
                }
            }
        };
        let path = match &address.transport {
            Transport::Unix(path) | Transport::UnixDatagram(path) => Some(path.clone()),
            _ => None,
        };
        let ingest = Ingest::new(feed, bound, address.socket, shared, sockets, path)?;
        actors.sockets.push(ingest.start());
    }
    actors.host = match (args.host_metrics, Sampler::new()) {
        (Switch::Off, _) => None,
        (Switch::On, Ok(sampler)) => {
            let reading = Reading::new(services, "host", "line-protocol", Options::new(), false);
            let feed = Feed {
                services: services.clone(),
                reading: reading.map_err(|e| anyhow!(e))?,
                database: "host".to_string(),
                ingest: services.counters.way("host"),
                source: "this machine".to_string(),
            };
            Some(Host::new(feed, sampler).start())
        }
        (Switch::On, Err(error)) => {
            tracing::warn!("no host metrics: {error}");
            None
        }
    };
    if http.is_some() || !unix.is_empty() {
        let http = http.map(|http| {
            drop(http.starting);
            http.listener
        });
        actors.http = Some(Http::new(http, unix, services.clone(), machine.cores)?.start());
    }
    Ok(actors)
}

/// A way in beside HTTP.
struct Way {
    /// Its name in /metrics.
    name: String,
    /// What it was asked for with.
    flag: String,
    address: ListenAddress,
}

fn ways(args: &ServeArgs) -> Vec<Way> {
    let mut ways = Vec::new();
    let mut add =
        |name: &str, format: &str, listen: Listen, way: fn(SocketAddr) -> Transport, database: &str| {
            if let Listen::At(address) = listen {
                ways.push(Way {
                    name: name.to_string(),
                    flag: format!("--{name} {address}"),
                    address: ListenAddress::new(format, way(address), database),
                });
            }
        };
    add(
        "line-tcp",
        "line-protocol",
        args.line_tcp,
        Transport::Tcp,
        &args.line_tcp_database,
    );
    add(
        "line-udp",
        "line-protocol",
        args.line_udp,
        Transport::Udp,
        &args.line_udp_database,
    );
    add(
        "statsd",
        "statsd",
        args.statsd,
        Transport::Tcp,
        &args.statsd_database,
    );
    add(
        "statsd",
        "statsd",
        args.statsd,
        Transport::Udp,
        &args.statsd_database,
    );
    ways.extend(args.listen.iter().map(|address| Way {
        name: address.to_string(),
        flag: format!("--listen {address}"),
        address: address.clone(),
    }));
    ways
}

/// Bytes of receive buffer to ask for each of the UDP sockets. The kernel gives twice as many, outside of what the process holds: together
/// a 32nd of the memory.
fn receive_bytes(memory: u64, sockets: usize) -> usize {
    let share = memory / 64 / (sockets.max(1) as u64);
    share.clamp(RECEIVE_BYTES_MIN, RECEIVE_BYTES_MAX) as usize
}

fn bind_way(address: &ListenAddress, readers: usize, receive_bytes: usize) -> std::io::Result<Sockets> {
    let settings = &address.socket;
    Ok(match &address.transport {
        Transport::Tcp(at) => Sockets::Streams(Bound::Tcp(listen(*at)?)),
        Transport::Unix(path) => Sockets::Streams(Bound::Unix(unix::listen(path, settings.mode)?)),
        Transport::Udp(at) => {
            let sockets = udp::bind(*at, readers, settings.receive_bytes.unwrap_or(receive_bytes))?;
            Sockets::Datagrams(sockets.into_iter().map(Source::Udp).collect())
        }
        Transport::UnixDatagram(path) => {
            Sockets::Datagrams(vec![Source::Unix(unix::bind(path, settings.mode)?)])
        }
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
        // Nothing feeds the gathering decoders any more: what they hold is all there is.
        let flushes = self.flushes.iter().map(|flush| flush.send(Stop));
        futures_util::future::join_all(flushes).await;
        let _ = self.live.send(Stop).await;
    }
}

fn banner(args: &ServeArgs, folder: &Path, machine: &Machine, services: &Services) {
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
    for address in &args.listen {
        println!("  listen    {address} into database {}", address.database);
    }
    match args.host_metrics {
        Switch::On => println!("  host      every 10 s             this machine, into database host"),
        Switch::Off => println!("  host      off"),
    }
    println!(
        "  budget    {} cores, {} memory: {}",
        machine.cores,
        Size(machine.memory),
        services.engine.budgets().get()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receive_buffers_together_are_a_small_part_of_the_memory() {
        for (memory, sockets, each) in [
            (64 << 30, 3, RECEIVE_BYTES_MAX),
            (256 << 20, 2, 2 << 20),
            (256 << 20, 64, RECEIVE_BYTES_MIN),
            (1 << 30, 0, RECEIVE_BYTES_MAX),
        ] {
            assert_eq!(receive_bytes(memory, sockets) as u64, each, "{memory} {sockets}");
        }
    }
}
