//! The jobs of a burst, a run for each suite.

use super::BURST;
use crate::cipher::{Job, KeyIndex};
use crate::crypto;
use crate::raw::cpu::Avx512;
use crate::suite::Suite;

/// What stands in the first run where no job was written.
const NONE: Job = Job {
    aad: [0; 16],
    start: 0,
    len: 0,
    key: KeyIndex(u32::MAX),
    count: 0,
    bearer_direction: 0,
    clear_data: false,
    verified: false,
    slot: 0,
};

/// Jobs of a burst. Nearly always they are all of one suite, and then one behind the other in the first run.
pub(crate) struct Runs {
    first: Box<[Job; BURST]>,
    used: usize,
    /// Suite of the first run, where that has a job.
    suite: Suite,
    others: [Vec<Job>; Suite::COUNT],
    mixed: bool,
    /// The first jobs are those of the slots looked up, one after the other, all by the short way; that many.
    straight: usize,
    /// Proof for loops over frames, asked for once.
    pub(crate) wide: Option<Avx512>,
}

/// The first run while it is being filled.
pub(crate) struct FirstRun<'a> {
    jobs: &'a mut [Job; BURST],
    used: &'a mut usize,
    /// Its suite.
    pub(crate) suite: Suite,
}

impl Runs {
    pub(super) fn new() -> Self {
        Self {
            first: Box::new([NONE; BURST]),
            used: 0,
            suite: Suite::Eea0,
            others: std::array::from_fn(|_| Vec::with_capacity(BURST)),
            mixed: false,
            straight: 0,
            wide: crypto::wide(),
        }
    }

    /// No jobs, whatever was left by a burst that ended in an error.
    pub(crate) fn begin(&mut self) {
        (self.used, self.straight) = (0, 0);
        if std::mem::take(&mut self.mixed) {
            self.others.iter_mut().for_each(Vec::clear);
        }
    }

    /// Adds a job of any suite.
    pub(crate) fn push(&mut self, suite: Suite, job: Job) {
        if self.used == 0 {
            self.suite = suite;
        }
        match self.first.get_mut(self.used) {
            Some(place) if suite == self.suite => {
                *place = job;
                self.used += 1;
            }
            _ => {
                self.mixed = true;
                self.others[suite as usize].push(job);
            }
        }
    }

    /// The first run; of what suite it is `suite` says, where it has no job yet.
    #[inline(always)]
    pub(crate) fn first_run(&mut self, suite: impl FnOnce() -> Option<Suite>) -> Option<FirstRun<'_>> {
        if self.used == 0 {
            self.suite = suite()?;
        }
        Some(FirstRun { jobs: &mut self.first, used: &mut self.used, suite: self.suite })
    }

    /// The first so many jobs are those of the slots looked up, one after the other, all by the short way.
    pub(crate) fn are_straight(&mut self, jobs: usize) {
        self.straight = jobs;
    }

    /// Jobs that are those of the slots looked up one after the other, all by the short way; they stand until the next burst.
    #[inline(always)]
    pub(crate) fn straight(&self) -> &[Job] {
        self.first.get(..self.straight).unwrap_or_default()
    }

    /// Gives each run that has jobs to `f`, and begins anew.
    #[inline(always)]
    pub(crate) fn finish(&mut self, mut f: impl FnMut(Suite, &mut [Job])) {
        if let Some(run @ [_, ..]) = self.first.get_mut(..self.used) {
            f(self.suite, run);
        }
        if self.mixed {
            for (suite, run) in Suite::ALL.into_iter().zip(&mut self.others) {
                if !run.is_empty() {
                    f(suite, run);
                }
            }
        }
        let straight = self.straight;
        self.begin();
        self.straight = straight;
    }
}

impl<'a> FirstRun<'a> {
    /// Places of the jobs to come, in order; say with [`Self::add`] how many were written.
    #[inline(always)]
    pub(crate) fn free(&mut self) -> &mut [Job] {
        self.jobs.get_mut(*self.used..).unwrap_or_default()
    }

    /// So many of the free places are jobs now.
    #[inline(always)]
    pub(crate) fn add(&mut self, jobs: usize) {
        *self.used += jobs;
    }
}
