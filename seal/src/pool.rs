//! A bounded pool for what costs a Diffie–Hellman.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

type Job = Box<dyn FnOnce() + Send>;

/// Threads that do handshakes, and a queue of those that wait. Cheap to clone; the threads end with the last
/// clone.
#[derive(Clone)]
pub struct Pool {
    jobs: SyncSender<Job>,
}

impl Pool {
    /// Starts `threads` threads before a queue of `waiting_max` handshakes.
    pub fn start(threads: usize, waiting_max: usize) -> std::io::Result<Self> {
        let (jobs, queue) = sync_channel::<Job>(waiting_max.max(1));
        let queue = Arc::new(Mutex::new(queue));
        for index in 0..threads.max(1) {
            let queue = queue.clone();
            thread::Builder::new().name(format!("imlink-dh-{index}")).spawn(move || work(&queue))?;
        }
        Ok(Self { jobs })
    }

    /// Puts a handshake in the queue; `false` when it is full.
    #[must_use]
    pub fn submit(&self, job: impl FnOnce() + Send + 'static) -> bool {
        match self.jobs.try_send(Box::new(job)) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}

fn work(queue: &Mutex<Receiver<Job>>) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(),
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn past_its_queue_a_pool_takes_nothing_and_what_it_took_is_done() {
        let pool = Pool::start(1, 2).unwrap();
        let (open, gate) = channel::<()>();
        let (started, has_started) = channel();
        let (done, results) = channel();
        assert!(pool.submit(move || {
            started.send(()).unwrap();
            gate.recv().unwrap();
        }));
        has_started.recv().unwrap();
        for number in 0..2 {
            let done = done.clone();
            assert!(pool.submit(move || done.send(number).unwrap()));
        }
        assert!(!pool.submit(|| ()), "the queue is full");
        open.send(()).unwrap();
        assert_eq!(results.iter().take(2).collect::<Vec<_>>(), [0, 1]);
    }
}
