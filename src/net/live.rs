//! `/live`: a WebSocket on which a client subscribes, and gets what changes.

use super::Services;
use super::counters::add;
use super::error::HttpError;
use crate::live::message::{Reply, Request};
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

/// WebSocket connections open at once.
pub const CONNECTIONS_MAX: u64 = 10_000;
/// Bytes of a message from a client.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// A ping is sent this often; a client that answers none of two is gone.
const PING: Duration = Duration::from_secs(20);

/// `GET /live`.
pub async fn live(
    request: HttpRequest,
    body: Payload,
    services: Data<Services>,
) -> Result<HttpResponse, actix_web::Error> {
    check_origin(&request)?;
    let services = services.into_inner();
    if services.counters.live_connections.load(Ordering::Relaxed) >= CONNECTIONS_MAX {
        let text = format!("too many live connections (live_connections_max {CONNECTIONS_MAX})");
        return Err(HttpError::new(StatusCode::SERVICE_UNAVAILABLE, text).into());
    }
    let (response, session, messages) = actix_ws::handle(&request, body)?;
    let messages = messages
        .max_frame_size(MESSAGE_BYTES_MAX)
        .aggregate_continuations()
        .max_continuation_size(MESSAGE_BYTES_MAX);
    actix_web::rt::spawn(async move {
        add(&services.counters.live_connections, 1);
        serve(session, messages, &services).await;
        services.counters.live_connections.fetch_sub(1, Ordering::Relaxed);
    });
    Ok(response)
}

/// A page of another site must not read what the browser's user may read.
fn check_origin(request: &HttpRequest) -> Result<(), HttpError> {
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
    let connection = services.hub.connect();
    let wake = Arc::new(Notify::new());
    let outbox = {
        let wake = wake.clone();
        Arc::new(Outbox::new(move || wake.notify_one()))
    };
    let mut ping = tokio::time::interval(PING);
    let mut heard = Instant::now();
    let reason = loop {
        tokio::select! {
            () = wake.notified() => {
                for text in outbox.take() {
                    // A slow client makes us wait here, and the outbox coalesces meanwhile.
                    if session.text(text).await.is_err() {
                        break;
                    }
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
                        outbox.text(Reply::error("", "messages are JSON texts, not binary"));
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

fn take(text: &str, connection: u64, outbox: &Arc<Outbox>, services: &Services) {
    let request: Request = match serde_json::from_str(text) {
        Ok(request) => request,
        Err(error) => {
            return outbox.text(Reply::error(
                "",
                &format!("cannot read the message: {error}; see docs/live.md"),
            ));
        }
    };
    let (id, asked) = match request {
        Request::Subscribe { id, db, q, resume: _ } => (
            id.clone(),
            services.hub.subscribe(connection, id, db, q, outbox.clone()),
        ),
        Request::Unsubscribe { id } => (id.clone(), services.hub.unsubscribe(connection, id)),
    };
    if let Err(busy) = asked {
        outbox.text(Reply::error(&id, &busy.to_string()));
    }
}
