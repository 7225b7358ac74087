//! A thread that works beside everything else until it is told to stop: continuous queries and rollups each have one.

use crate::query::{Cancel, Why};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// See the module. Shared.
pub struct Background {
    name: &'static str,
    stop: Sender<()>,
    cancel: Arc<Cancel>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Background {
    /// Starts the thread. What it runs ends when the channel says so, and what it asks is given up by `cancel`.
    ///
    /// # Errors
    /// It could not be started.
    pub fn start(
        name: &'static str,
        cancel: Arc<Cancel>,
        run: impl FnOnce(&Receiver<()>) + Send + 'static,
    ) -> io::Result<Self> {
        let (stop, stopped) = bounded(1);
        let thread = std::thread::Builder::new().name(name.into());
        let thread = thread.spawn(move || run(&stopped))?;
        Ok(Self {
            name,
            stop,
            cancel,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Ends it.
    pub fn stop(&self) {
        let _ = self.stop.try_send(());
        self.cancel.cancel(Why::Stopping);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!(thread = self.name, "a thread panicked");
        }
    }
}
