//! What HTTP answers while the journal is replayed: 503, when to ask again, and how far it is.
//!
//! Queries are not answered from what is replayed so far: an answer without points that were acknowledged looks like any
//! other (docs/adr/0023). The server proper takes the same socket over when it is ready, so that who connects meanwhile
//! waits in the kernel's queue and is never refused.

use super::error::HttpError;
use super::http::{INFLUXDB_VERSION, ServerHandle};
use crate::engine::progress::{Progress, Stage};
use crate::query::encode::json_text;
use actix_web::http::header::{HeaderName, HeaderValue, RETRY_AFTER};
use actix_web::http::{KeepAlive, StatusCode};
use actix_web::web::{self, Data};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, ResponseError, rt};
use std::io;
use std::net::TcpListener;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

/// Connections open at once; others wait.
const CONNECTIONS_MAX: usize = 256;
/// A client that sends no whole request for so long is cut off.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// What is being answered when the start is done gets so long.
const END_SECONDS: u64 = 1;

/// Answers until the server proper does.
pub struct Starting {
    handle: ServerHandle,
    thread: Option<JoinHandle<()>>,
}

impl Starting {
    /// Answers on `listener`, in a thread of its own.
    ///
    /// # Errors
    /// Input/output.
    pub fn start(listener: TcpListener, progress: Arc<Progress>) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::Builder::new().name("kymo-starting".into());
        let thread = thread.spawn(move || serve(listener, progress, &sender))?;
        let handle = receiver.recv().map_err(io::Error::other)??;
        Ok(Self {
            handle,
            thread: Some(thread),
        })
    }
}

/// Ends: nothing is taken from the socket any more when this returns.
impl Drop for Starting {
    fn drop(&mut self) {
        // The command is sent by the call; the thread ends when it is carried out.
        drop(self.handle.stop(true));
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that answers while starting panicked");
        }
    }
}

fn serve(listener: TcpListener, progress: Arc<Progress>, told: &mpsc::Sender<io::Result<ServerHandle>>) {
    let progress = Data::from(progress);
    rt::System::new().block_on(async move {
        let server = HttpServer::new(move || {
            App::new()
                .app_data(progress.clone())
                .default_service(web::to(answer))
        });
        let listening = server
            .workers(1)
            .max_connections(CONNECTIONS_MAX)
            .keep_alive(KeepAlive::Disabled)
            .client_request_timeout(REQUEST_TIMEOUT)
            .shutdown_timeout(END_SECONDS)
            .disable_signals()
            .listen(listener);
        let server = match listening {
            Ok(server) => server.run(),
            Err(error) => return drop(told.send(Err(error))),
        };
        if told.send(Ok(server.handle())).is_ok()
            && let Err(error) = server.await
        {
            tracing::error!(%error, "the HTTP server of the start failed");
        }
    });
}

async fn answer(request: HttpRequest, progress: Data<Progress>) -> HttpResponse {
    let reached = progress.reached();
    let mut text = String::new();
    json_text(&reached.to_string(), &mut text);
    let stage = match reached.stage {
        Stage::OpeningStore => "opening the store",
        Stage::Replaying => "replaying",
        Stage::Starting => "starting",
    };
    let figures = format!(
        "\"replay\":{{\"stage\":\"{stage}\",\"batches\":{},\"bytes\":{},\"bytes_at_most\":{}}}",
        reached.batches, reached.bytes, reached.bytes_at_most
    );
    let unavailable = |body: String| {
        HttpResponse::ServiceUnavailable()
            .insert_header((RETRY_AFTER, "1"))
            .content_type("application/json")
            .body(body)
    };
    let mut response = match request.path() {
        "/health" => unavailable(format!(
            "{{\"name\":\"influxdb\",\"message\":{text},\"status\":\"fail\",\"checks\":[],{figures},\"version\":\"{INFLUXDB_VERSION}\"}}\n"
        )),
        "/ready" => unavailable(format!("{{\"status\":\"starting\",\"message\":{text},{figures}}}\n")),
        "/metrics" => HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(format!(
            "# HELP kymo_ready 0 while the journal is replayed.\n# TYPE kymo_ready gauge\nkymo_ready 0\n\
             # HELP kymo_recovery_batches Batches replayed at the start.\n# TYPE kymo_recovery_batches gauge\nkymo_recovery_batches {}\n\
             # HELP kymo_recovery_bytes Bytes of them.\n# TYPE kymo_recovery_bytes gauge\nkymo_recovery_bytes {}\n",
            reached.batches, reached.bytes
        )),
        _ => HttpError::new(StatusCode::SERVICE_UNAVAILABLE, format!("{reached}; retry")).error_response(),
    };
    response.headers_mut().insert(
        HeaderName::from_static("x-influxdb-version"),
        HeaderValue::from_static(INFLUXDB_VERSION),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream};

    fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).expect("it listens");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").expect("it listens");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers and closes");
        answer
    }

    #[test]
    fn progress_is_told_until_the_server_proper_takes_the_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let progress = Arc::new(Progress::default());
        let starting = Starting::start(listener.try_clone().expect("a socket"), progress.clone());
        let starting = starting.expect("it starts");
        let answer = ask(address, "/health");
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("starting: opening the store"), "{answer}");
        progress.replays(64 << 20);
        progress.batch(5000);
        progress.batch(6000);
        let answer = ask(address, "/ready").to_ascii_lowercase();
        assert!(
            answer.contains("retry-after: 1")
                && answer.contains("\"batches\":2,\"bytes\":11000,\"bytes_at_most\":67108864"),
            "{answer}"
        );
        for path in ["/query?q=SHOW+DATABASES", "/write?db=d", "/ping", "/"] {
            let answer = ask(address, path);
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
            assert!(
                answer.contains(
                    "starting: replaying the journal, 2 batches, 10 KiB of at most 65536 KiB; retry"
                ),
                "{answer}"
            );
        }
        let answer = ask(address, "/metrics");
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("kymo_recovery_batches 2\n"));
        drop(starting);
        // Nobody reads: but who connects now is not refused, and is there for whoever listens next.
        let mut early = TcpStream::connect(address).expect("the kernel's queue");
        early.write_all(b"x").expect("it is buffered");
        listener.set_nonblocking(false).expect("a socket");
        let (mut accepted, _) = listener.accept().expect("it waits");
        let mut byte = [0];
        accepted.read_exact(&mut byte).expect("what was sent");
        assert_eq!(&byte, b"x");
    }
}
