//! Lanes, and the threads that work on them: the calling one and helpers.
//!
//! A lane's parts are worked on one after the other, in the order they were handed over, by its own thread or, where they pile
//! up, by another that is free. So the calling thread, which alone reads and places frames, has a lane too and helps when there
//! is enough to do, and no processor waits for another.

#![allow(clippy::vec_box, reason = "parts go from hand to hand boxed, and boxed they wait")]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crossbeam::utils::CachePadded;

use super::lane::{Hop, Lane};
use super::output::{Between, Writer};
use super::part::Part;

/// All lanes of a replay. Dropping them ends the helpers.
pub(crate) struct Lanes {
    pool: Arc<Pool>,
    helpers: Vec<JoinHandle<()>>,
    lanes: usize,
}

struct Pool {
    state: Mutex<State>,
    /// For helpers: there may be something to do.
    work: Condvar,
    /// For the calling thread: something was done.
    news: Condvar,
    /// How often either was the case, for those who look before they sleep.
    work_count: CachePadded<AtomicU64>,
    news_count: CachePadded<AtomicU64>,
    /// Parts that wait for a thread.
    waiting: CachePadded<AtomicUsize>,
}

struct State {
    places: Vec<Place>,
    file: FilePlace,
    helpers_asleep: usize,
    caller_asleep: bool,
    ended: bool,
    /// A helper panicked, and its lane is gone.
    broken: bool,
}

struct Place {
    /// Gone while a thread has it.
    lane: Option<Box<Lane>>,
    waiting: VecDeque<(Hop, Box<Part>)>,
    first: VecDeque<anyhow::Result<Box<Part>>>,
    second: VecDeque<anyhow::Result<Box<Part>>>,
}

/// The output file: like a lane with one thread at a time, and whole rounds in their order.
#[derive(Default)]
struct FilePlace {
    writer: Option<Box<Writer>>,
    waiting: VecDeque<Leaving>,
    done: VecDeque<anyhow::Result<Vec<Box<Part>>>>,
}

/// A round on its way into the file.
pub(crate) struct Leaving {
    pub parts: Vec<Box<Part>>,
    /// What came up since the round before, and the frame that each goes before.
    pub between: Vec<(u64, Between)>,
}

impl Place {
    fn done(&mut self, hop: Hop) -> &mut VecDeque<anyhow::Result<Box<Part>>> {
        match hop {
            Hop::First => &mut self.first,
            Hop::Second => &mut self.second,
        }
    }
}

impl Lanes {
    /// As many helpers as lanes but one, whose share the calling thread does.
    pub(crate) fn start(lanes: Vec<Lane>) -> std::io::Result<Self> {
        let count = lanes.len();
        let place = |lane| Place {
            lane: Some(Box::new(lane)),
            waiting: VecDeque::new(),
            first: VecDeque::new(),
            second: VecDeque::new(),
        };
        let state = State {
            places: lanes.into_iter().map(place).collect(),
            file: FilePlace::default(),
            helpers_asleep: 0,
            caller_asleep: false,
            ended: false,
            broken: false,
        };
        let pool = Arc::new(Pool {
            state: Mutex::new(state),
            work: Condvar::new(),
            news: Condvar::new(),
            work_count: CachePadded::default(),
            news_count: CachePadded::default(),
            waiting: CachePadded::default(),
        });
        let mut started = Self { pool, helpers: Vec::new(), lanes: count };
        for i in 1..count {
            let pool = started.pool.clone();
            let thread = std::thread::Builder::new().name(format!("pc5-worker-{i}"));
            started.helpers.push(thread.spawn(move || pool.help_until_the_end(i))?);
        }
        Ok(started)
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.lanes
    }

    /// Parts that wait for a thread.
    pub(crate) fn waiting(&self) -> usize {
        self.pool.waiting.load(Ordering::Relaxed)
    }

    /// Hands a part to its lane.
    pub(crate) fn submit(&self, hop: Hop, part: Box<Part>) {
        let mut state = self.pool.lock();
        state.places[part.lane].waiting.push_back((hop, part));
        self.pool.waiting.fetch_add(1, Ordering::Relaxed);
        self.pool.tell_helpers(&state);
    }

    /// The oldest part that each of these lanes was handed for a hop and did not give back yet; `None` until all are done.
    pub(crate) fn receive(&self, lanes: &[usize], hop: Hop) -> anyhow::Result<Option<Vec<Box<Part>>>> {
        let mut state = self.pool.lock();
        // A lane can have several parts of a round.
        for (i, &lane) in lanes.iter().enumerate() {
            let earlier = lanes[..i].iter().filter(|&&l| l == lane).count();
            if state.places[lane].done(hop).len() <= earlier {
                return Ok(None);
            }
        }
        lanes
            .iter()
            .filter_map(|&lane| state.places[lane].done(hop).pop_front())
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// Gives them the file that [`Self::write`] writes to.
    pub(crate) fn set_file(&self, writer: Writer) {
        self.pool.lock().file.writer = Some(Box::new(writer));
    }

    /// The file, once everything was written.
    pub(crate) fn take_file(&self) -> Option<Writer> {
        self.pool.lock().file.writer.take().map(|writer| *writer)
    }

    /// Hands a round to whoever writes next.
    pub(crate) fn write(&self, leaving: Leaving) {
        let mut state = self.pool.lock();
        self.pool.waiting.fetch_add(leaving.parts.len(), Ordering::Relaxed);
        state.file.waiting.push_back(leaving);
        self.pool.tell_helpers(&state);
    }

    /// The oldest round that was written and not given back yet.
    pub(crate) fn written(&self) -> anyhow::Result<Option<Vec<Box<Part>>>> {
        self.pool.lock().file.done.pop_front().transpose()
    }

    /// Works on one part that waits; `false` if there is none for this thread.
    pub(crate) fn help(&self) -> bool {
        self.pool.work_on_one(0)
    }

    /// What [`Self::wait`] waits for a change of.
    pub(crate) fn news(&self) -> u64 {
        self.pool.news_count.load(Ordering::Acquire)
    }

    /// Waits until a helper has done something since `seen`.
    ///
    /// # Panics
    /// If a helper did.
    pub(crate) fn wait(&self, seen: u64) {
        if looks(|| self.news() != seen) {
            return;
        }
        let mut state = self.pool.lock();
        while self.news() == seen {
            assert!(!state.broken, "a worker panicked");
            state.caller_asleep = true;
            state = self.pool.news.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.caller_asleep = false;
        }
        assert!(!state.broken, "a worker panicked");
    }

    /// Runs `f` on one lane, between two parts.
    pub(crate) fn call<T>(&mut self, lane: usize, f: impl FnOnce(&mut Lane) -> T) -> T {
        let mut taken = loop {
            let seen = self.news();
            let lane = self.pool.lock().places[lane].lane.take();
            match lane {
                Some(lane) => break lane,
                None => self.wait(seen),
            }
        };
        let result = f(&mut taken);
        let mut state = self.pool.lock();
        state.places[lane].lane = Some(taken);
        self.pool.tell_helpers(&state);
        result
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        state.ended = true;
        self.pool.tell_helpers(&state);
        drop(state);
        for helper in self.helpers.drain(..) {
            // Its panic has shown itself where its part was missing.
            let _ = helper.join();
        }
    }
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that panics is done under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_helpers(&self, state: &State) {
        self.work_count.fetch_add(1, Ordering::Release);
        if state.helpers_asleep > 0 {
            self.work.notify_all();
        }
    }

    fn tell_caller(&self, state: &State) {
        self.news_count.fetch_add(1, Ordering::Release);
        if state.caller_asleep {
            self.news.notify_one();
        }
    }

    fn help_until_the_end(&self, own: usize) {
        loop {
            let seen = self.work_count.load(Ordering::Acquire);
            if self.work_on_one(own) || looks(|| self.work_count.load(Ordering::Acquire) != seen) {
                continue;
            }
            let mut state = self.lock();
            while self.work_count.load(Ordering::Acquire) == seen && !state.ended {
                state.helpers_asleep += 1;
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.helpers_asleep -= 1;
            }
            if state.ended {
                return;
            }
        }
    }

    /// Works on the oldest part of a lane that nobody works on, of `own` if it can be, else of one that lags behind.
    fn work_on_one(&self, own: usize) -> bool {
        let mut state = self.lock();
        // The file first: nothing else has to be in order as a whole, and what comes was rendered just now.
        if state.file.writer.is_some()
            && let Some(leaving) = state.file.waiting.pop_front()
            && let Some(writer) = state.file.writer.take()
        {
            drop(state);
            self.write_one(writer, leaving);
            return true;
        }
        let lanes = state.places.len();
        // What a lane knows of its contexts is in the caches of its own thread's processor: others help where that lags behind.
        let free = |i: &usize| {
            let place = &state.places[*i];
            place.lane.is_some() && place.waiting.len() > if *i == own { 0 } else { LAG }
        };
        let Some(i) = (own..lanes).chain(0..own).find(free) else { return false };
        let place = &mut state.places[i];
        let (Some(mut lane), Some((hop, mut part))) = (place.lane.take(), place.waiting.pop_front()) else {
            return false;
        };
        drop(state);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        let breaks = Breaks(self);
        let result = lane.run(hop, &mut part);
        std::mem::forget(breaks);
        let mut state = self.lock();
        let place = &mut state.places[i];
        place.lane = Some(lane);
        place.done(hop).push_back(result.map(|()| part));
        if !place.waiting.is_empty() {
            self.tell_helpers(&state);
        }
        self.tell_caller(&state);
        true
    }
}

impl Pool {
    fn write_one(&self, mut writer: Box<Writer>, leaving: Leaving) {
        let Leaving { parts, between } = leaving;
        self.waiting.fetch_sub(parts.len(), Ordering::Relaxed);
        let breaks = Breaks(self);
        between.into_iter().for_each(|(before, what)| writer.add(before, what));
        let result = writer.write(&parts);
        std::mem::forget(breaks);
        let mut state = self.lock();
        state.file.writer = Some(writer);
        state.file.done.push_back(result.map(|()| parts));
        if !state.file.waiting.is_empty() {
            self.tell_helpers(&state);
        }
        self.tell_caller(&state);
    }
}

/// Tells of a panic that the lane was lost in.
struct Breaks<'a>(&'a Pool);

impl Drop for Breaks<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.broken = true;
        self.0.tell_caller(&state);
    }
}

/// Looks for a while whether something is the case: waking a thread that sleeps takes as long.
fn looks(is: impl Fn() -> bool) -> bool {
    (0..LOOKS).any(|_| {
        std::hint::spin_loop();
        is()
    })
}

/// Some tens of microseconds.
const LOOKS: u32 = 4_000;

/// Parts that wait for their own lane's thread whatever the others do.
const LAG: usize = 2;
