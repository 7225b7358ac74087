//! The HTTP server: routes, and the headers of every answer.

use super::connection::{Connection, Refused};
use super::error::HttpError;
use super::parameters::Parameters;
use super::seats::{Seat, Seats, Turn};
use super::{Services, hangup, live, mappings, metrics, query, rejected, sse, write};
use crate::budget::machine::files_max;
use crate::budget::niceness;
use actix_codec::Framed;
use actix_http::error::DispatchError;
use actix_http::h1::Codec;
use actix_http::{HttpService, Request};
use actix_server::{GracefulShutdownSignal, Server};
use actix_service::{IntoServiceFactory, ServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::body::{BodySize, BoxBody, MessageBody};
pub use actix_web::dev::ServerHandle;
use actix_web::dev::{AppConfig, Extensions, ServiceRequest, ServiceResponse};
use actix_web::http::ConnectionType;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue, ORIGIN};
use actix_web::middleware::{Compress, Next, from_fn};
use actix_web::rt::net::{TcpStream, UnixStream};
use actix_web::web::{self, Bytes, Data};
use actix_web::{App, HttpRequest, HttpResponse};
use std::future::ready;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// What InfluxDB's clients are told; they only look at the first two numbers.
pub const INFLUXDB_VERSION: &str = "1.8.10";
/// Connections open at once, on each of the server's threads.
const CONNECTIONS_PER_THREAD_MAX: usize = 10_000;
/// However few files may be open.
const CONNECTIONS_PER_THREAD_MIN: usize = 16;
/// Bytes of headers that a connection may hold; that they are no more is actix-http's doing.
const HEADERS_BYTES_MAX: u64 = 128 << 10;
/// How long requests may go on after a stop was asked for.
const STOP_SECONDS: u64 = 5;
/// How long a connection that is being closed may take.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// One connection in so many is kept for those that come while others make room.
const SPARE_PART: usize = 8;

/// Starts to serve; the server runs when it is awaited.
///
/// # Errors
/// Input/output.
pub fn serve(
    listener: Option<TcpListener>,
    unix: Vec<UnixListener>,
    services: Arc<Services>,
    threads: usize,
) -> std::io::Result<Server> {
    let services = Data::from(services);
    let memory = services.engine.budgets().meter().bytes_max();
    let mut server = Server::build()
        .workers(threads)
        // Of each thread: those that have no room wait. There are less: others make room before ([`seats`]).
        .max_concurrent_connections(connections_max(files_max(), memory, threads))
        .shutdown_timeout(STOP_SECONDS)
        .disable_signals();
    if let Some(listener) = listener {
        let (services, stopping) = (services.clone(), server.graceful_shutdown_signal());
        server = server.listen("http", listener, move || {
            // By each of the server's threads.
            niceness::set(niceness::ANSWER);
            let nodelay = |io: &Connection| drop(io.stream().set_nodelay(true));
            let http = connections(services.clone(), stopping.clone(), nodelay);
            let turns = services.throwing_away.clone();
            fn_service(move |io: TcpStream| {
                let peer = io.peer_addr().ok();
                ready(Ok((Connection::new(io, turns.clone()), peer)))
            })
            .and_then(http)
        })?;
    }
    for listener in unix {
        let (services, stopping) = (services.clone(), server.graceful_shutdown_signal());
        server = server.listen_uds("http over a Unix socket", listener, move || {
            let http = connections(services.clone(), stopping.clone(), |_: &UnixStream| ());
            fn_service(|io: UnixStream| ready(Ok((io, None)))).and_then(http)
        })?;
    }
    Ok(server.run())
}

/// Seats for the connections of all threads.
pub fn seats(memory: u64, threads: usize) -> Arc<Seats> {
    Seats::new(seats_max(connections_max(files_max(), memory, threads), threads))
}

fn seats_max(connections_max: usize, threads: usize) -> usize {
    (connections_max - connections_max / SPARE_PART) * threads.max(1)
}

/// Connections for each of so many threads where so many files may be open: a connection takes two (see [`hangup`]). An eighth is left
/// for the store and the journal, a quarter for other ways in. And where there is so much memory: if all send headers without an end,
/// these are not more than a quarter of it.
fn connections_max(files: u64, memory: u64, threads: usize) -> usize {
    let most = (files / 8 * 5 / 2).min(memory / 4 / HEADERS_BYTES_MAX);
    let most = usize::try_from(most).unwrap_or(usize::MAX) / threads.max(1);
    most.clamp(CONNECTIONS_PER_THREAD_MIN, CONNECTIONS_PER_THREAD_MAX)
}

/// What becomes of connections. `prepare` is done to those that are taken over for `/live`.
fn connections<T>(
    services: Data<Services>,
    stopping: GracefulShutdownSignal,
    prepare: impl Fn(&T) + Clone + 'static,
) -> impl ServiceFactory<(T, Option<SocketAddr>), Config = (), Response = (), Error = DispatchError, InitError = ()>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let upgrading = services.clone();
    let (seats, head_patience) = (services.seats.clone(), services.head_patience);
    let upgrade = fn_service(move |(request, framed): (Request, Framed<T, Codec>)| {
        let parts = framed.into_parts();
        prepare(&parts.io);
        let upgrade = live::Upgrade {
            request,
            io: parts.io,
            read: parts.read_buf,
            codec: parts.codec,
        };
        upgrade.begin(upgrading.clone());
        ready(Ok::<_, actix_web::Error>(()))
    });
    let app = map_config(routes(services), |()| AppConfig::default());
    HttpService::build()
        .graceful_shutdown_signal(move || {
            let stopping = stopping.clone();
            async move { stopping.notified().await }
        })
        .client_request_timeout(head_patience)
        .client_disconnect_timeout(DISCONNECT_TIMEOUT)
        .on_connect_ext(move |io: &T, kept: &mut Extensions| {
            hangup::remember(io, kept);
            if let Some(socket) = kept.get::<hangup::Peer>().map(hangup::Peer::socket) {
                kept.insert(seats.take(socket));
            }
        })
        .upgrade(upgrade)
        .h1(app)
}

/// What is where.
fn routes(
    services: Data<Services>,
) -> impl ServiceFactory<
    Request,
    Config = AppConfig,
    Response = ServiceResponse<impl MessageBody>,
    Error = actix_web::Error,
    InitError = (),
> {
    let formats = services.engine.formats();
    let native = formats.iter().flat_map(|f| f.paths());
    let mut app = App::new();
    for path in native {
        app = app
            .route(path, web::post().to(write::write_native))
            .route(path, web::put().to(write::write_native));
    }
    app.app_data(services.clone())
        .wrap(from_fn(headers))
        .wrap(Compress::default())
        .route("/ping", web::route().to(ping))
        .route("/health", web::get().to(health))
        .route("/ready", web::get().to(is_ready))
        .route("/metrics", web::get().to(metrics::metrics))
        .route("/write", web::post().to(write::write_v1))
        .route("/api/v2/write", web::post().to(write::write_v2))
        .route("/api/v2/query", web::post().to(no_flux))
        .route("/query", web::get().to(query::query))
        .route("/query", web::post().to(query::query))
        .route("/live", web::get().to(live::live))
        .route("/live/sse", web::get().to(sse::sse))
        .route("/mappings", web::get().to(mappings::list))
        .route("/mappings", web::put().to(mappings::put))
        .route("/mappings", web::delete().to(mappings::drop_one))
        .route("/rejected", web::get().to(rejected::list))
        .route("/rejected", web::delete().to(rejected::discard))
        .route("/rejected/replay", web::post().to(rejected::replay))
        .default_service(web::to(nothing_here))
        .into_factory()
}

/// Adds what InfluxDB's clients look for to every answer.
async fn headers(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let asked = request.headers().clone();
    let turn = Seat::of(request.request()).map(Seat::answer);
    let refused = Refused::of(request.request()).cloned();
    let mut response = next.call(request).await?;
    if refused.is_some_and(|refused| refused.is_set()) {
        response
            .response_mut()
            .head_mut()
            .set_connection_type(ConnectionType::Close);
    }
    dress(&asked, response.headers_mut());
    Ok(response.map_body(|_, body| Answer {
        body: body.boxed(),
        _turn: turn,
    }))
}

/// An answer: its connection is not given up before it is out.
struct Answer {
    body: BoxBody,
    _turn: Option<Turn>,
}

impl MessageBody for Answer {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_next(context)
    }

    fn try_into_bytes(self) -> Result<Bytes, Self> {
        let Self { body, _turn } = self;
        body.try_into_bytes().map_err(|body| Self { body, _turn })
    }
}

/// Adds them to the headers of an answer to a request with other headers.
pub fn dress(asked: &HeaderMap, headers: &mut HeaderMap) {
    let given = ["X-Request-Id", "Request-Id"]
        .iter()
        .find_map(|name| asked.get(*name).cloned());
    let id = given.unwrap_or_else(new_id);
    let mut set =
        |name: &'static str, value: HeaderValue| headers.insert(HeaderName::from_static(name), value);
    set("x-influxdb-version", HeaderValue::from_static(INFLUXDB_VERSION));
    set("x-influxdb-build", HeaderValue::from_static("OSS"));
    set(
        "x-kymo-version",
        HeaderValue::from_static(env!("CARGO_PKG_VERSION")),
    );
    set("request-id", id.clone());
    set("x-request-id", id);
    if let Some(origin) = asked.get(ORIGIN).cloned() {
        set("access-control-allow-origin", origin);
        set(
            "access-control-allow-methods",
            HeaderValue::from_static("DELETE, GET, OPTIONS, POST, PUT"),
        );
        set(
            "access-control-allow-headers",
            HeaderValue::from_static(
                "Accept, Accept-Encoding, Authorization, Content-Length, Content-Type, X-CSRF-Token, X-HTTP-Method-Override",
            ),
        );
        set(
            "access-control-expose-headers",
            HeaderValue::from_static("Date, X-InfluxDB-Version, X-InfluxDB-Build"),
        );
    }
}

/// A UUID of version 4's shape; unique in this process, and different from start to start.
fn new_id() -> HeaderValue {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let seed = [
        super::clock::now().to_le_bytes(),
        count.to_le_bytes(),
        u64::from(std::process::id()).to_le_bytes(),
    ];
    let hash = xxhash_rust::xxh3::xxh3_128(&seed.concat());
    let (high, low) = ((hash >> 64) as u64, hash as u64);
    let text = format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xFFFF,
        high & 0xFFF,
        0x8000 | low >> 48 & 0x3FFF,
        low & 0xFFFF_FFFF_FFFF
    );
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("0"))
}

async fn ping(request: HttpRequest) -> HttpResponse {
    let verbose = Parameters::parse(request.query_string())
        .get("verbose")
        .is_some_and(|v| v != "false" && v != "0");
    if verbose {
        return HttpResponse::Ok()
            .content_type("application/json")
            .body(format!("{{\"version\":\"{INFLUXDB_VERSION}\"}}\n"));
    }
    HttpResponse::NoContent().finish()
}

async fn health() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(format!(
        "{{\"name\":\"influxdb\",\"message\":\"ready for queries and writes\",\"status\":\"pass\",\"checks\":[],\"version\":\"{INFLUXDB_VERSION}\"}}\n"
    ))
}

/// As InfluxDB 2.x answers it; [`super::starting`] has what it says before.
async fn is_ready(services: Data<Services>) -> HttpResponse {
    let up = services.started.elapsed();
    let now = jiff::Timestamp::from_nanosecond(i128::from(super::clock::now())).unwrap_or_default();
    let started = now.checked_sub(up).unwrap_or_default();
    HttpResponse::Ok().content_type("application/json").body(format!(
        "{{\"status\":\"ready\",\"started\":\"{started}\",\"up\":\"{}s\"}}\n",
        up.as_secs()
    ))
}

async fn no_flux() -> Result<HttpResponse, HttpError> {
    Err(HttpError::bad_request("Flux is not supported; ask InfluxQL at /query").v2())
}

async fn nothing_here(request: HttpRequest, services: Data<Services>) -> Result<HttpResponse, HttpError> {
    if request.method() == actix_web::http::Method::OPTIONS {
        return Ok(HttpResponse::NoContent().finish());
    }
    let known = [
        "/ping",
        "/health",
        "/ready",
        "/metrics",
        "/write",
        "/query",
        "/live",
        "/live/sse",
        "/mappings",
        "/rejected",
        "/rejected/replay",
        "/api/v2/write",
        "/api/v2/query",
    ];
    let is_native = services.engine.formats().by_path(request.path()).is_some();
    if is_native || known.contains(&request.path()) {
        let status = actix_web::http::StatusCode::METHOD_NOT_ALLOWED;
        return Err(HttpError::new(
            status,
            format!("{} {} is not allowed", request.method(), request.path()),
        ));
    }
    Err(HttpError::not_found(format!(
        "there is nothing at {}; ask /query, /write, /live, /metrics or /health",
        request.path()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_follow_files_memory_and_threads() {
        for (files, memory, threads, want) in [
            (1 << 20, 24 << 30, 2, CONNECTIONS_PER_THREAD_MAX),
            (1024, 24 << 30, 2, 160),
            (1 << 20, 8 << 30, 2, 8192),
            (1 << 20, 512 << 20, 2, 512),
            (u64::MAX, u64::MAX, 1, CONNECTIONS_PER_THREAD_MAX),
            (16, 1 << 20, 8, CONNECTIONS_PER_THREAD_MIN),
        ] {
            assert_eq!(connections_max(files, memory, threads), want, "{files} {memory}");
            let seats = seats_max(want, threads);
            assert!(
                seats < want * threads && seats > want * threads / 2,
                "{seats} of {want}"
            );
        }
    }
}
