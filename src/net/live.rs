//! `/live`: a WebSocket on which a client subscribes, and gets what changes. Its connection is taken over from the HTTP server, whose
//! buffers are larger than all that a waiting subscriber needs.

use super::Services;
use super::counters::add;
use super::error::HttpError;
use super::frames::{Frames, Received};
use super::http::dress;
use super::parameters::Parameters;
use crate::live::message::{Encoding, Request, Wanted};
use crate::live::outbox::Outbox;
use actix_codec::Encoder;
use actix_http::body::{BodySize, MessageBody};
use actix_http::h1::{Codec, Message};
use actix_http::ws::{CloseCode, CloseReason, OpCode, handshake};
use actix_http::{Response, body::BoxBody};
use actix_web::ResponseError;
use actix_web::http::header::{HOST, HeaderMap, HeaderValue, ORIGIN, SEC_WEBSOCKET_PROTOCOL};
use actix_web::http::{ConnectionType, StatusCode};
use actix_web::web::{Bytes, BytesMut, Data};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

/// WebSocket and event stream connections open at once.
pub const CONNECTIONS_MAX: u64 = 10_000;
/// Bytes of a message from a client.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Who asks for this sub-protocol is sent FlatBuffers.
const FLATBUFFERS: &str = "kymo.flatbuffers";

/// How long clients may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// A ping is sent this often; a client that answers none of two is gone.
    pub ping: Duration,
    /// A client that takes nothing for so long is gone.
    pub send: Duration,
}

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

/// `GET /live` of a client that does not ask for a WebSocket.
pub async fn live() -> Result<actix_web::HttpResponse, HttpError> {
    let text = "a WebSocket client is expected here (see docs/live.md); for curl there is /live/sse";
    Err(HttpError::bad_request(text))
}

/// A client asks for a WebSocket: its connection, which the HTTP server is done with.
pub struct Upgrade<T> {
    /// What it asked.
    pub request: actix_http::Request,
    /// The connection.
    pub io: T,
    /// What was read already of what comes after the request.
    pub read: BytesMut,
    /// How the server writes answers.
    pub codec: Codec,
}

impl<T: AsyncRead + AsyncWrite + Unpin + 'static> Upgrade<T> {
    /// Serves it, or says why not.
    pub fn begin(self, services: Data<Services>) {
        actix_web::rt::spawn(async move {
            let Self {
                request,
                mut io,
                read,
                mut codec,
            } = self;
            let (response, accepted) = match accept(&request, services) {
                Ok((response, connected, encoding)) => {
                    (head(&mut codec, response), Some((connected, encoding)))
                }
                Err(error) => (refusal(&mut codec, &request, &error), None),
            };
            drop((request, codec));
            // A client that is gone already needs no answer.
            let Ok(mut response) = response else { return };
            if io.write_all_buf(&mut response).await.is_err() {
                return;
            }
            match accepted {
                Some((connected, encoding)) => {
                    let frames = Frames::new(io, read, MESSAGE_BYTES_MAX);
                    serve(frames, encoding, connected.services()).await;
                    drop(connected);
                }
                None => drop(io.shutdown().await),
            }
        });
    }
}

/// The answer to a request for a WebSocket.
fn accept(
    request: &actix_http::Request,
    services: Data<Services>,
) -> Result<(Response<()>, Connected, Encoding), HttpError> {
    if request.path() != "/live" {
        let text = format!("there is no WebSocket at {}, only at /live", request.path());
        return Err(HttpError::not_found(text));
    }
    check_origin(request.head().headers())?;
    let mut response =
        handshake(request.head()).map_err(|error| HttpError::bad_request(error.to_string()))?;
    let wanted = request.head().headers().get_all(SEC_WEBSOCKET_PROTOCOL);
    let by_protocol = wanted
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|name| name.trim() == FLATBUFFERS));
    let parameters = Parameters::parse(request.uri().query().unwrap_or(""));
    let encoding = match parameters.get("format") {
        None if by_protocol => Encoding::FlatBuffers,
        None | Some("json") => Encoding::Json,
        Some("flatbuffers") => Encoding::FlatBuffers,
        Some(other) => {
            let text = format!("unknown format {other:?}: json, flatbuffers");
            return Err(HttpError::bad_request(text));
        }
    };
    if by_protocol && encoding == Encoding::FlatBuffers {
        response.insert_header((SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(FLATBUFFERS)));
    }
    let connected = Connected::new(services.into_inner())?;
    let mut response = response.finish().drop_body();
    dress(request.head().headers(), response.headers_mut());
    Ok((response, connected, encoding))
}

fn head(codec: &mut Codec, response: Response<()>) -> io::Result<BytesMut> {
    let mut out = BytesMut::new();
    codec.encode(Message::Item((response, BodySize::None)), &mut out)?;
    Ok(out)
}

fn refusal(codec: &mut Codec, request: &actix_http::Request, error: &HttpError) -> io::Result<BytesMut> {
    let response: Response<BoxBody> = error.error_response().into();
    let mut bare = Response::with_body(response.status(), ());
    *bare.headers_mut() = response.headers().clone();
    dress(request.head().headers(), bare.headers_mut());
    bare.head_mut().set_connection_type(ConnectionType::Close);
    let body = response.into_body().try_into_bytes();
    let body = body.unwrap_or_else(|_| Bytes::new());
    let mut out = BytesMut::new();
    let size = BodySize::Sized(body.len() as u64);
    codec.encode(Message::Item((bare, size)), &mut out)?;
    codec.encode(Message::Chunk(Some(body)), &mut out)?;
    codec.encode(Message::Chunk(None), &mut out)?;
    Ok(out)
}

/// A page of another site must not read what the browser's user may read.
///
/// # Errors
/// It is one.
pub fn check_origin(headers: &HeaderMap) -> Result<(), HttpError> {
    let text = |name| headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok());
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

async fn serve<T>(mut frames: Frames<T>, encoding: Encoding, services: &Services)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let wake = Arc::new(Notify::new());
    let woken = wake.clone();
    let (connection, outbox) = services.hub.connect(encoding, move || woken.notify_one());
    let Patience { ping, send } = services.live_patience;
    let mut pings = tokio::time::interval(ping);
    let mut heard = Instant::now();
    let closing = |code, text: &str| {
        let description = Some(text.to_string());
        Some(CloseReason { code, description })
    };
    let reason = loop {
        let sent = tokio::select! {
            () = wake.notified() => {
                let taken = outbox.take();
                for id in taken.void {
                    if let Err(busy) = services.hub.again(connection, id.clone()) {
                        outbox.error(&id, &busy.to_string());
                    }
                }
                let code = match encoding {
                    Encoding::Json => OpCode::Text,
                    Encoding::FlatBuffers => OpCode::Binary,
                };
                let messages = taken.messages.into_iter().map(|message| message.bytes);
                // A slow client makes us wait here, and the outbox coalesces meanwhile.
                let sent = frames.send(code, messages, send).await;
                // While it took that nobody read its pongs.
                heard = heard.max(Instant::now() - ping);
                sent
            }
            _ = pings.tick() => {
                if heard.elapsed() > 2 * ping + ping / 2 {
                    break closing(CloseCode::Policy, "no answer to pings");
                }
                frames.send(OpCode::Ping, [Bytes::new()], send).await
            }
            received = frames.next() => {
                heard = Instant::now();
                match received {
                    Ok(Some(Received::Text(text))) => take(&text, connection, &outbox, services),
                    Ok(Some(Received::Binary)) => outbox.error("", "requests are JSON texts, not binary"),
                    Ok(Some(Received::Ping(bytes))) => {
                        if frames.send(OpCode::Pong, [bytes], send).await.is_err() {
                            break None;
                        }
                    }
                    Ok(Some(Received::Pong)) => {}
                    Ok(Some(Received::Close)) => break closing(CloseCode::Normal, ""),
                    Ok(None) => break None,
                    Err(error) => break error.reason(),
                }
                Ok(())
            }
        };
        match sent {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                break closing(CloseCode::Policy, "too slow");
            }
            Err(_) => break None,
        }
    };
    outbox.close();
    services.hub.disconnect(connection);
    frames.close(reason).await;
}

fn take(text: &[u8], connection: u64, outbox: &Arc<Outbox>, services: &Services) {
    let request: Request = match serde_json::from_slice(text) {
        Ok(request) => request,
        Err(error) => {
            let text = format!("cannot read the message: {error}; see docs/live.md");
            return outbox.error("", &text);
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
        outbox.error(&id, &busy.to_string());
    }
}
