//! `/live/sse`: one subscription as server-sent events, for curl and `EventSource`. Every event is a message of `/live`; its id is the
//! sequence, so that a browser that reconnects resumes.

use super::Services;
use super::error::HttpError;
use super::live::{Connected, check_origin};
use super::parameters::Parameters;
use crate::live::hub::Hub;
use crate::live::message::Wanted;
use crate::live::outbox::Outbox;
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, ContentEncoding};
use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// A comment is sent this often, so that a client that is gone is noticed.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// The only subscription's name.
const ID: &str = "1";

/// One client; ends its subscription when dropped.
struct Events {
    connected: Connected,
    connection: u64,
    outbox: Arc<Outbox>,
    wake: Arc<Notify>,
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

    /// The next bytes to send.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.ended {
                return None;
            }
            let woken = tokio::time::timeout(HEARTBEAT, self.wake.notified()).await;
            if woken.is_err() {
                return Some(Bytes::from_static(b":\n\n"));
            }
            let taken = self.outbox.take();
            for id in taken.void {
                // If the hub is busy the stream ends, and the client comes back.
                self.ended |= self.hub().again(self.connection, id).is_err();
            }
            let mut out = String::new();
            for message in taken.messages {
                out.push_str("event: ");
                out.push_str(message.kind);
                if message.sequence > 0 {
                    out.push_str(&format!("\nid: {}", message.sequence));
                }
                out.push_str("\ndata: ");
                out.push_str(&message.text);
                out.push_str("\n\n");
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
    check_origin(&request)?;
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
    let (connection, outbox) = connected.services().hub.connect(move || woken.notify_one());
    let events = Events {
        connected,
        connection,
        outbox: outbox.clone(),
        wake,
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
