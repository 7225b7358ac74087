//! Sends batches until they are stored: what passes (a server that starts, is overloaded, has no disk left) is waited for.

use super::super::http::{Answer, Client, error_of};
use flate2::Compression;
use flate2::write::GzEncoder;
use indicatif::ProgressBar;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::time::{Duration, Instant};

/// The first wait, about; each further one is twice as long.
const WAIT_MIN: Duration = Duration::from_millis(100);
/// Waits are no longer, about, whatever the server asks.
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
        self.persist_by(ask, chance, std::thread::sleep)
    }

    /// The same, with waits that are spread by `chance` (from 0 to 1) and made by `pause`.
    fn persist_by(
        &self,
        ask: impl Fn() -> anyhow::Result<Answer>,
        mut chance: impl FnMut() -> f64,
        mut pause: impl FnMut(Duration),
    ) -> anyhow::Result<Answer> {
        let (began, mut tries) = (Instant::now(), 0u32);
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
            if tries == 0 {
                let text = format!("{why}: trying again for {:.0?}", self.patience);
                self.progress.suspend(|| eprintln!("{text}"));
            }
            pause(wait(tries, asked, chance()).min(left));
            tries = tries.saturating_add(1);
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

/// How long to wait after so many tries before: twice as long each time, and not less than the server asked for. `chance` (from 0 to 1) spreads
/// it, so that many clients that were refused at once do not come back all at once.
fn wait(tries: u32, asked: Option<Duration>, chance: f64) -> Duration {
    let doubled = WAIT_MIN.saturating_mul(2u32.saturating_pow(tries)).min(WAIT_MAX);
    let own = doubled.mul_f64(0.75 + chance / 2.0);
    let asked = asked.unwrap_or_default().min(WAIT_MAX);
    own.max(asked.mul_f64(1.0 + chance / 4.0))
}

/// A number from 0 to 1, another one each time and in each process.
fn chance() -> f64 {
    f64::from(RandomState::new().hash_one(0) as u32) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::super::ServerArgs;
    use super::*;
    use std::cell::{Cell, RefCell};

    #[test]
    fn waits_double_up_to_a_limit_are_spread_and_heed_the_server() {
        let seconds = |tries, asked: Option<f64>, chance| {
            wait(tries, asked.map(Duration::from_secs_f64), chance).as_secs_f64()
        };
        for (tries, asked, chance, want) in [
            (0, None, 0.0, 0.075),
            (0, None, 0.5, 0.1),
            (0, None, 1.0, 0.125),
            (1, None, 0.5, 0.2),
            (2, None, 0.5, 0.4),
            (8, None, 0.5, 25.6),
            (9, None, 0.5, 30.0),
            (9, None, 0.0, 22.5),
            (u32::MAX, None, 1.0, 37.5),
            // What the server asks for is the least; many that it asks at once are spread as well.
            (0, Some(2.0), 0.0, 2.0),
            (0, Some(2.0), 1.0, 2.5),
            (6, Some(2.0), 0.5, 6.4),
            (0, Some(3600.0), 0.0, 30.0),
        ] {
            let got = seconds(tries, asked, chance);
            assert!(
                (got - want).abs() < 1e-9,
                "{tries} {asked:?} {chance}: {got}, not {want}"
            );
        }
    }

    #[test]
    fn chance_is_another_one_each_time() {
        let drawn: Vec<f64> = (0..100).map(|_| chance()).collect();
        assert!(drawn.iter().all(|part| (0.0..=1.0).contains(part)), "{drawn:?}");
        let below = drawn.iter().filter(|part| **part < 0.5).count();
        // By chance once in 2^100.
        assert!((1..100).contains(&below), "{drawn:?}");
    }

    #[test]
    fn a_sender_waits_longer_each_time() {
        let sender = Sender {
            client: Client::new(&ServerArgs {
                url: String::new(),
                database: String::new(),
            }),
            parameters: Vec::new(),
            patience: Duration::from_secs(600),
            answer: Duration::from_secs(1),
            progress: ProgressBar::hidden(),
        };
        let (asked, waits) = (Cell::new(0), RefCell::new(Vec::new()));
        let mut chances = [0.0, 1.0, 0.5].into_iter();
        let answer = sender.persist_by(
            || {
                asked.set(asked.get() + 1);
                match asked.get() {
                    1 => anyhow::bail!("connection refused"),
                    2 | 3 => Ok(Answer {
                        status: 503,
                        body: String::new(),
                        retry_after: None,
                    }),
                    _ => Ok(Answer {
                        status: 204,
                        body: String::new(),
                        retry_after: None,
                    }),
                }
            },
            || chances.next().expect("three waits"),
            |wait| waits.borrow_mut().push(wait.as_millis()),
        );
        assert_eq!(answer.expect("in the end").status, 204);
        assert_eq!(*waits.borrow(), [75, 250, 400]);
    }
}
