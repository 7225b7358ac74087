//! `/live`: a WebSocket on which a client subscribes, and gets what changes.

use super::Services;
use super::counters::add;
use super::error::HttpError;
use crate::live::message::{self, Request, Wanted};
use crate::live::outbox::Outbox;
use actix_web::http::StatusCode;
use actix_web::http::header::{HOST, ORIGIN};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use actix_ws::{AggregatedMessage, CloseCode, CloseReason, Session};
use futures_util::StreamExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// WebSocket and event stream connections open at once.
pub const CONNECTIONS_MAX: u64 = 10_000;
/// Bytes of a message from a client.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// A ping is sent this often; a client that answers none of two is gone.
const PING: Duration = Duration::from_secs(20);
/// A client that takes nothing for so long is gone.
const SEND_PATIENCE: Duration = Duration::from_secs(60);

/// Counts a connection while it is there.
pub struct Connected(Arc<Services>);

impl Connected {
    /// One more.
    ///
    /// # Errors
    /// There are too many.
    pub fn new(services: Arc<Services>) -> Result<Self, HttpError> {
        if services.counters.live_connections.load(Ordering::Relaxed) >= CONNECTIONS_MAX {
            let text = format!("too many live connections (live_connections_max {CONNECTIONS_MAX})");
            return Err(HttpError::new(StatusCode::SERVICE_UNAVAILABLE, text));
        }
        add(&services.counters.live_connections, 1);
        Ok(Self(services))
    }

    /// What a connection needs.
    pub fn services(&self) -> &Services {
        &self.0
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.counters.live_connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// `GET /live`.
pub async fn live(
    request: HttpRequest,
    body: Payload,
    services: Data<Services>,
) -> Result<HttpResponse, actix_web::Error> {
    check_origin(&request)?;
    let connected = Connected::new(services.into_inner())?;
    let (response, session, messages) = actix_ws::handle(&request, body)?;
    let messages = messages
        .max_frame_size(MESSAGE_BYTES_MAX)
        .aggregate_continuations()
        .max_continuation_size(MESSAGE_BYTES_MAX);
    actix_web::rt::spawn(async move {
        serve(session, messages, connected.services()).await;
        drop(connected);
    });
    Ok(response)
}

/// A page of another site must not read what the browser's user may read.
///
/// # Errors
/// It is one.
pub fn check_origin(request: &HttpRequest) -> Result<(), HttpError> {
    let text = |name| {
        request
            .headers()
            .get(name)
            .and_then(|v: &actix_web::http::header::HeaderValue| v.to_str().ok())
    };
    let Some(origin) = text(ORIGIN) else { return Ok(()) };
    let same = origin.split("://").nth(1) == text(HOST);
    if same {
        Ok(())
    } else {
        Err(HttpError::new(
            StatusCode::FORBIDDEN,
            format!("origin {origin} may not subscribe here"),
        ))
    }
}

async fn serve(mut session: Session, mut messages: actix_ws::AggregatedMessageStream, services: &Services) {
    let wake = Arc::new(Notify::new());
    let woken = wake.clone();
    let (connection, outbox) = services.hub.connect(move || woken.notify_one());
    let mut ping = tokio::time::interval(PING);
    let mut heard = Instant::now();
    let reason = loop {
        tokio::select! {
            () = wake.notified() => {
                // A slow client makes us wait here, and the outbox coalesces meanwhile.
                let sent = tokio::time::timeout(SEND_PATIENCE, send(&mut session, connection, &outbox, services));
                match sent.await {
                    Ok(true) => {}
                    Ok(false) => break None,
                    Err(_) => break Some(CloseReason { code: CloseCode::Policy, description: Some("too slow".into()) }),
                }
            }
            _ = ping.tick() => {
                if heard.elapsed() > 2 * PING + PING / 2 {
                    break Some(CloseReason { code: CloseCode::Policy, description: Some("no answer to pings".into()) });
                }
                if session.ping(b"").await.is_err() {
                    break None;
                }
            }
            message = messages.next() => {
                heard = Instant::now();
                match message {
                    Some(Ok(AggregatedMessage::Text(text))) => take(&text, connection, &outbox, services),
                    Some(Ok(AggregatedMessage::Binary(_))) => {
                        outbox.message(message::error("", "messages are JSON texts, not binary"));
                    }
                    Some(Ok(AggregatedMessage::Ping(bytes))) => {
                        if session.pong(&bytes).await.is_err() {
                            break None;
                        }
                    }
                    Some(Ok(AggregatedMessage::Pong(_))) => {}
                    Some(Ok(AggregatedMessage::Close(reason))) => break reason,
                    Some(Err(error)) => {
                        let description = Some(error.to_string());
                        break Some(CloseReason { code: CloseCode::Protocol, description });
                    }
                    None => break None,
                }
            }
        }
    };
    outbox.close();
    services.hub.disconnect(connection);
    // The connection may be gone already.
    let _ = session.close(reason).await;
}

/// False: the client is gone.
async fn send(session: &mut Session, connection: u64, outbox: &Arc<Outbox>, services: &Services) -> bool {
    let taken = outbox.take();
    for message in taken.messages {
        if session.text(message.text).await.is_err() {
            return false;
        }
    }
    for id in taken.void {
        if let Err(busy) = services.hub.again(connection, id.clone()) {
            outbox.message(message::error(&id, &busy.to_string()));
        }
    }
    true
}

fn take(text: &str, connection: u64, outbox: &Arc<Outbox>, services: &Services) {
    let request: Request = match serde_json::from_str(text) {
        Ok(request) => request,
        Err(error) => {
            return outbox.message(message::error(
                "",
                &format!("cannot read the message: {error}; see docs/live.md"),
            ));
        }
    };
    let (id, asked) = match request {
        Request::Subscribe {
            id,
            db,
            q,
            resume,
            from,
            lateness,
        } => {
            let wanted = Wanted {
                db,
                q,
                resume,
                from,
                lateness,
            };
            (
                id.clone(),
                services.hub.subscribe(connection, id, wanted, outbox.clone()),
            )
        }
        Request::Unsubscribe { id } => (id.clone(), services.hub.unsubscribe(connection, id)),
    };
    if let Err(busy) = asked {
        outbox.message(message::error(&id, &busy.to_string()));
    }
}
