//! A bounded queue for one reader, who goes to sleep at once when there is nothing: crossbeam's own `recv` first gives the processor
//! away many times, which showed in every profile of ingestion on two cores.

use crossbeam_channel::{TryRecvError, TrySendError};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;

/// Makes a queue for so many messages.
pub fn bounded<T>(messages: usize) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = crossbeam_channel::bounded(messages);
    let bell = Bell(Arc::new(OnceLock::new()));
    let own = bell.0.clone();
    (
        Sender { queue: sender, bell },
        Receiver {
            queue: receiver,
            bell: own,
        },
    )
}

/// The way in.
pub struct Sender<T> {
    // Dropped before the bell rings for the last time, so that the reader finds the queue closed.
    queue: crossbeam_channel::Sender<T>,
    bell: Bell,
}

/// The way out; for one thread.
pub struct Receiver<T> {
    queue: crossbeam_channel::Receiver<T>,
    bell: Arc<OnceLock<Thread>>,
}

/// Wakes the reader, once more when it is dropped.
struct Bell(Arc<OnceLock<Thread>>);

impl Bell {
    fn ring(&self) {
        // A reader that has not come yet looks before it sleeps.
        if let Some(reader) = self.0.get() {
            reader.unpark();
        }
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        self.ring();
    }
}

/// The reader is gone; the message comes back.
#[derive(Debug)]
pub struct Closed<T>(pub T);

impl<T> Sender<T> {
    /// Sends; waits while the queue is full.
    ///
    /// # Errors
    /// The reader is gone.
    pub fn send(&self, message: T) -> Result<(), Closed<T>> {
        let sent = self.queue.send(message);
        self.bell.ring();
        sent.map_err(|error| Closed(error.0))
    }

    /// Sends unless the queue is full.
    ///
    /// # Errors
    /// It is, or the reader is gone.
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        self.queue.try_send(message)?;
        self.bell.ring();
        Ok(())
    }

    /// Messages that wait.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// None waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

impl<T> Receiver<T> {
    /// The next message; sleeps until there is one. `None` once all senders are gone and the queue is empty.
    pub fn recv(&self) -> Option<T> {
        self.bell.get_or_init(std::thread::current);
        loop {
            match self.queue.try_recv() {
                Ok(message) => return Some(message),
                Err(TryRecvError::Empty) => std::thread::park(),
                Err(TryRecvError::Disconnected) => return None,
            }
        }
    }

    /// The next message, if one waits.
    pub fn try_recv(&self) -> Option<T> {
        self.queue.try_recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn every_message_arrives_and_the_end_is_noticed() {
        for round in 0..50u64 {
            let (sender, receiver) = bounded(1 + round as usize % 4);
            let reader = thread::spawn(move || {
                let mut sum = 0;
                while let Some(message) = receiver.recv() {
                    sum += message;
                    if sum % 7 == 0 {
                        thread::yield_now();
                    }
                }
                sum
            });
            for message in 0..200 {
                sender.send(message).expect("the reader is there");
                if message % (round + 1) == 0 {
                    thread::yield_now();
                }
            }
            drop(sender);
            assert_eq!(reader.join().expect("no panic"), 199 * 200 / 2);
        }
    }

    #[test]
    fn full_and_closed_are_told_apart() {
        let (sender, receiver) = bounded(1);
        assert!(sender.is_empty() && receiver.try_recv().is_none());
        sender.try_send(1).expect("room");
        assert!(matches!(sender.try_send(2), Err(TrySendError::Full(2))));
        assert_eq!(sender.len(), 1);
        drop(receiver);
        assert!(matches!(sender.try_send(3), Err(TrySendError::Disconnected(3))));
        assert!(sender.send(4).is_err_and(|closed| closed.0 == 4));
    }
}
