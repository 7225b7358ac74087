//! `/live/sse`: one subscription as server-sent events, for curl and `EventSource`. Every event is a message of `/live`; its id is the
//! sequence, so that a browser that reconnects resumes.

use super::Services;
use super::error::HttpError;
use super::hangup::Peer;
use super::live::{Connected, check_origin};
use super::parameters::Parameters;
use crate::live::hub::Hub;
use crate::live::message::{Encoding, Wanted};
use crate::live::outbox::Outbox;
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, ContentEncoding};
use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// It is looked this often whether a client that waits has hung up.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The only subscription's name.
const ID: &str = "1";

/// One client; ends its subscription when dropped.
struct Events {
    connected: Connected,
    connection: u64,
    outbox: Arc<Outbox>,
    wake: Arc<Notify>,
    /// Its connection.
    peer: Option<Peer>,
    /// The subscription has ended: what waits is sent, then no more.
    ended: bool,
}

impl Drop for Events {
    fn drop(&mut self) {
        self.outbox.close();
        self.connected.services().hub.disconnect(self.connection);
    }
}

impl Events {
    fn hub(&self) -> &Hub {
        &self.connected.services().hub
    }

    fn has_hung_up(&self) -> bool {
        self.peer.as_ref().is_some_and(Peer::has_closed)
    }

    /// Waits until there is something to send, or the client has hung up; false: nothing came for a while.
    async fn woken(&self) -> bool {
        // A comment is sent as often as a WebSocket is pinged: what is in between keeps the connection, and what broke is noticed.
        let heartbeat = self.connected.services().live_patience.ping;
        let mut waited = Duration::ZERO;
        while waited < heartbeat {
            let woken = tokio::time::timeout(LOOK_EVERY, self.wake.notified()).await;
            if woken.is_ok() || self.has_hung_up() {
                return true;
            }
            waited += LOOK_EVERY;
        }
        false
    }

    /// The next bytes to send.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.ended {
                return None;
            }
            if !self.woken().await {
                return Some(Bytes::from_static(b":\n\n"));
            }
            if self.has_hung_up() {
                return None;
            }
            let taken = self.outbox.take();
            for id in taken.void {
                // If the hub is busy the stream ends, and the client comes back.
                self.ended |= self.hub().again(self.connection, id).is_err();
            }
            let mut out = Vec::new();
            for message in taken.messages {
                out.extend_from_slice(b"event: ");
                out.extend_from_slice(message.kind.as_bytes());
                if message.sequence > 0 {
                    out.extend_from_slice(format!("\nid: {}", message.sequence).as_bytes());
                }
                out.extend_from_slice(b"\ndata: ");
                out.extend_from_slice(&message.bytes);
                out.extend_from_slice(b"\n\n");
                self.ended |= message.kind == "error";
            }
            if !out.is_empty() {
                return Some(out.into());
            }
        }
    }
}

/// `GET /live/sse?db=..&q=..`, and `resume` (or `Last-Event-ID`), `from`, `lateness` as in `/live`.
pub async fn sse(request: HttpRequest, services: Data<Services>) -> Result<HttpResponse, HttpError> {
    check_origin(request.headers())?;
    let parameters = Parameters::parse(request.query_string());
    let required = |name: &str| {
        let missing = || HttpError::bad_request(format!("missing required parameter {name:?}"));
        parameters.get(name).map(str::to_string).ok_or_else(missing)
    };
    let last = request
        .headers()
        .get("Last-Event-ID")
        .and_then(|v| v.to_str().ok());
    let wanted = Wanted {
        db: required("db")?,
        q: required("q")?,
        resume: number("resume", last.or(parameters.get("resume")))?,
        from: number("from", parameters.get("from"))?,
        lateness: parameters.get("lateness").map(str::to_string),
    };
    let connected = Connected::new(services.into_inner())?;
    let wake = Arc::new(Notify::new());
    let woken = wake.clone();
    let (connection, outbox) = connected
        .services()
        .hub
        .connect(Encoding::Json, move || woken.notify_one());
    let events = Events {
        connected,
        connection,
        outbox: outbox.clone(),
        wake,
        peer: Peer::of(&request),
        ended: false,
    };
    let asked = events.hub().subscribe(connection, ID.to_string(), wanted, outbox);
    asked.map_err(|busy| HttpError::new(StatusCode::SERVICE_UNAVAILABLE, busy.to_string()))?;
    let body = stream::unfold(events, |mut events| async move {
        let bytes = events.next().await?;
        Some((Ok::<_, std::convert::Infallible>(bytes), events))
    });
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((CACHE_CONTROL, "no-store"))
        // An event must not wait for others to be compressed with.
        .insert_header(ContentEncoding::Identity)
        .streaming(body))
}

fn number<T: std::str::FromStr>(name: &str, text: Option<&str>) -> Result<Option<T>, HttpError> {
    let parse = |text: &str| {
        text.parse()
            .map_err(|_| HttpError::bad_request(format!("invalid {name}: {text:?}")))
    };
    text.map(parse).transpose()
}
