//! The join, messages 1 to 6. One type a state, on each side. Source: `go-mode.md` section 4; contribution 2.1 steps
//! 2-4 and 2.3.
//!
//! ```text
//!    member                                              owner
//!    ExpectChallenge  --1 JOIN_REQUEST------------->
//!                     <------------2 JOIN_CHALLENGE--    ExpectAuthenticate
//!    ExpectAccept     --3 JOIN_AUTHENTICATE-------->
//!                     <---------------4 JOIN_ACCEPT--    ExpectComplete        link context pending
//!    ExpectConfirm    --5 JOIN_COMPLETE (protected)->
//!                     <-6 JOIN_CONFIRM (protected)---    joined                link context active
//! ```
//! What is read before verification is called `claimed_`; a failed check leaves the state as it was.

pub(crate) mod member;
pub(crate) mod owner;

use pc5_dataplane::ids::KdSessId;
use pc5_dataplane::kdf::{KdSess, kd_sess};
use pc5_dataplane::suite::Suite;

use super::schedule::{JoinedKeys, LinkRoot, Secret};
use crate::credential::Refusal;
use crate::reject::Reject;

/// A link as the join leaves it, equal on both sides.
pub(crate) struct Agreed {
    pub root: LinkRoot,
    pub id: KdSessId,
    pub kd_sess: KdSess,
    pub suite: Suite,
    pub finished_m: Secret,
    pub finished_o: Secret,
}

impl Agreed {
    fn new(keys: JoinedKeys, id: KdSessId, suite: Suite, nonce_1: &[u8; 16], nonce_2: &[u8; 16]) -> Self {
        let JoinedKeys { root, finished_m, finished_o } = keys;
        let kd_sess = kd_sess(&root.kd, nonce_1, nonce_2);
        Self { root, id, kd_sess, suite, finished_m, finished_o }
    }
}

/// A step was refused: the cause for the wire, and in full for the log.
#[derive(Debug)]
pub(crate) struct Refused {
    pub cause: Reject,
    pub detail: String,
}

impl Refused {
    pub(crate) fn new(cause: Reject, detail: impl ToString) -> Self {
        Self { cause, detail: detail.to_string() }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { cause: Reject::from(&refusal), detail: refusal.to_string() }
    }
}

impl From<Reject> for Refused {
    fn from(cause: Reject) -> Self {
        Self { cause, detail: cause.to_string() }
    }
}
