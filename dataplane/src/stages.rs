//! The stages of the pipeline, one a file, each a plain function over a batch. They read and write slots and never
//! decide what comes next: that is [`crate::engine`]'s order.
//!
//! ```text
//! send:     reserve -> seal -> settle_sealed
//! receive:  parse -> lookup -> open -> settle_opened
//! ```

mod lookup;
mod open;
mod parse;
mod reserve;
mod seal;
mod settle_opened;
mod settle_sealed;

pub(crate) use lookup::lookup;
pub(crate) use open::open;
pub(crate) use parse::parse;
pub(crate) use reserve::reserve;
pub(crate) use seal::seal;
pub(crate) use settle_opened::settle_opened;
pub(crate) use settle_sealed::settle_sealed;

/// Runs a loop over usual frames as a function of its own, so that what it needs stays in registers; it should call nothing.
#[inline(never)]
fn apart<R>(f: impl FnOnce() -> R) -> R {
    f()
}

/// The same, compiled for the processor as well, and taken where that is of the highest tier.
// Two closures, each called once: one that both share would not be compiled into either.
macro_rules! quickly {
    ($wide:expr, $body:expr) => {
        match $wide {
            Some(proof) => proof.compiled(|| $body),
            None => crate::stages::apart(|| $body),
        }
    };
}
use quickly;
