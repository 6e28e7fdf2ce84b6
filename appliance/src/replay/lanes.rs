//! One or more lanes: one runs to completion on the calling thread; more run on threads of their own, fed batches in order.

use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, bounded};
use pc5_dataplane::EngineError;

use super::lane::{Lane, Part, Step};

/// Batches that can wait for a worker: two rounds in flight, each at worst gathered for one way out from all lanes.
const fn queue(lanes: usize) -> usize {
    4 + 2 * lanes
}

type Call = Box<dyn FnOnce(&mut Lane) + Send>;

enum Task {
    /// Steps, and whether they are the last of the part's way.
    Run(&'static [Step], bool, Box<Part>),
    Call(Call),
}

struct Worker {
    tasks: Sender<Task>,
    done: Receiver<Result<Box<Part>, EngineError>>,
    thread: Option<JoinHandle<()>>,
}

/// All lanes of a replay.
pub(crate) enum Lanes {
    /// One, here.
    Inline(Box<Lane>),
    /// Several, each on a thread.
    Threads(Threads),
}

/// Lanes on threads; dropping them ends the threads.
pub(crate) struct Threads(Vec<Worker>);

impl Threads {
    /// Starts one thread a lane.
    pub(crate) fn start(lanes: Vec<Lane>) -> std::io::Result<Self> {
        let queue = queue(lanes.len());
        let worker = |(i, mut lane): (usize, Lane)| {
            let (tasks, inbox) = bounded::<Task>(queue);
            let (outbox, done) = bounded(queue);
            let body = move || {
                for task in inbox {
                    match task {
                        Task::Run(steps, last, mut part) => {
                            let result = lane.run(steps, &mut part).map(|()| {
                                if last {
                                    part.tally();
                                }
                                part
                            });
                            if outbox.send(result).is_err() {
                                return;
                            }
                        }
                        Task::Call(call) => call(&mut lane),
                    }
                }
            };
            let thread = std::thread::Builder::new().name(format!("pc5-worker-{i}")).spawn(body)?;
            Ok(Worker { tasks, done, thread: Some(thread) })
        };
        lanes.into_iter().enumerate().map(worker).collect::<std::io::Result<_>>().map(Self)
    }

    /// Hands a part to a worker; results come back from [`Self::receive`] in the same order, counted if the steps were the
    /// `last` ones.
    pub(crate) fn send(&self, worker: usize, steps: &'static [Step], last: bool, part: Box<Part>) {
        // A worker that is gone has left its panic for `receive`.
        let _ = self.0[worker].tasks.send(Task::Run(steps, last, part));
    }

    /// The oldest part a worker has not given back yet.
    pub(crate) fn receive(&self, worker: usize) -> Result<Box<Part>, EngineError> {
        self.0[worker].done.recv().expect("a worker gives back every part it was handed")
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        for w in &mut self.0 {
            let (closed, _) = bounded(0);
            w.tasks = closed;
        }
        for w in &mut self.0 {
            if let Some(thread) = w.thread.take() {
                // A panic of a worker has shown itself where its part was missing.
                let _ = thread.join();
            }
        }
    }
}

impl Lanes {
    /// How many.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Inline(_) => 1,
            Self::Threads(t) => t.0.len(),
        }
    }

    /// Runs `f` on one lane, after everything handed to it before, and waits.
    pub(crate) fn call<T: Send + 'static>(
        &mut self,
        worker: usize,
        f: impl FnOnce(&mut Lane) -> T + Send + 'static,
    ) -> T {
        match self {
            Self::Inline(lane) => f(lane),
            Self::Threads(threads) => {
                let (answer, wait) = bounded(1);
                let call: Call = Box::new(move |lane| {
                    let _ = answer.send(f(lane));
                });
                let _ = threads.0[worker].tasks.send(Task::Call(call));
                wait.recv().expect("a worker answers every call")
            }
        }
    }
}
