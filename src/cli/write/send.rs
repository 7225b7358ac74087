//! Sends batches until they are stored: what passes (a server that starts, is overloaded, has no disk left) is waited for.

use super::super::http::{Answer, Client, error_of};
use flate2::Compression;
use flate2::write::GzEncoder;
use indicatif::ProgressBar;
use std::io::Write;
use std::time::{Duration, Instant, SystemTime};

/// The first wait; each further one is twice as long.
const WAIT_MIN: Duration = Duration::from_millis(100);
/// No wait is longer, whatever the server asks.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// What became of a batch.
#[derive(Debug)]
pub enum Sent {
    /// It is stored.
    Stored,
    /// It is stored but for what the answer names.
    Partly(Answer),
}

/// See the module.
pub struct Sender {
    /// The server.
    pub client: Client,
    /// URL parameters of every request.
    pub parameters: Vec<(String, String)>,
    /// How long one batch is tried.
    pub patience: Duration,
    /// How long the answer to one try may take.
    pub answer: Duration,
    /// Where notices go.
    pub progress: ProgressBar,
}

impl Sender {
    /// Sends a batch until it is stored.
    ///
    /// # Errors
    /// It was not stored within the patience, or the server will never take it.
    pub fn send(&self, batch: &[u8]) -> anyhow::Result<Sent> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(batch)?;
        let body = gzip.finish()?;
        let answer = self.persist(|| self.client.write(&self.parameters, &body, self.answer))?;
        match answer.status {
            200..=299 => Ok(Sent::Stored),
            400 if is_partial(&answer) => Ok(Sent::Partly(answer)),
            413 => anyhow::bail!("{}; send fewer at once: --batch-size", error_of(&answer)),
            _ => anyhow::bail!("{}", error_of(&answer)),
        }
    }

    /// Asks until the answer is one that will not change.
    ///
    /// # Errors
    /// There was none within the patience.
    pub fn persist(&self, ask: impl Fn() -> anyhow::Result<Answer>) -> anyhow::Result<Answer> {
        let (began, mut wait, mut told) = (Instant::now(), WAIT_MIN, false);
        loop {
            let (why, asked) = match ask() {
                Ok(answer) if !is_passing(answer.status) => return Ok(answer),
                Ok(answer) => (error_of(&answer), answer.retry_after),
                Err(error) => (format!("{error:#}"), None),
            };
            let left = self.patience.saturating_sub(began.elapsed());
            if left.is_zero() {
                anyhow::bail!("gave up after {:?}: {why}", self.patience);
            }
            if !told {
                told = true;
                let text = format!("{why}: trying again for {:.0?}", self.patience);
                self.progress.suspend(|| eprintln!("{text}"));
            }
            std::thread::sleep(
                jittered(wait)
                    .max(asked.unwrap_or_default())
                    .min(WAIT_MAX)
                    .min(left),
            );
            wait = (wait * 2).min(WAIT_MAX);
        }
    }
}

/// Is it worth asking again?
fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

/// Is the rest of the batch stored?
fn is_partial(answer: &Answer) -> bool {
    let text = error_of(answer);
    text.contains("unable to parse") || text.contains("partial write")
}

/// Three quarters of it and up to half as much more: many clients do not come back all at once.
fn jittered(wait: Duration) -> Duration {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let part = f64::from(now.subsec_nanos() % 1000) / 1000.0;
    wait.mul_f64(0.75 + part / 2.0)
}
