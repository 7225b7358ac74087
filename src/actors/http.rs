//! The actor of the HTTP listener.

use super::Stop;
use crate::net::{Services, http};
use actix::{Actor, Context, Handler, ResponseFuture};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

/// Runs the HTTP server.
pub struct Http {
    handle: http::ServerHandle,
}

impl Http {
    /// Starts to serve.
    ///
    /// # Errors
    /// Input/output.
    pub fn new(
        listener: Option<TcpListener>,
        unix: Vec<UnixListener>,
        services: Arc<Services>,
        threads: usize,
    ) -> std::io::Result<Self> {
        let server = http::serve(listener, unix, services, threads)?;
        let handle = server.handle();
        actix::spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "the HTTP server failed");
            }
        });
        Ok(Self { handle })
    }
}

impl Actor for Http {
    type Context = Context<Self>;
}

impl Handler<Stop> for Http {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Stop, _: &mut Context<Self>) -> ResponseFuture<()> {
        let handle = self.handle.clone();
        Box::pin(async move { handle.stop(true).await })
    }
}
