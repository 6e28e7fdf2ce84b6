//! The main job on a capture: keying, then the engine over every frame.
//!
//! ```text
//! capture -> rounds of parts -> lanes (UEs <-> owner) -> output, wire, report
//!              keying (owner, members) -> key tables ^
//! ```

pub(crate) mod directory;
pub(crate) mod inner;
pub(crate) mod keying;
pub(crate) mod lane;
pub(crate) mod lanes;
pub(crate) mod output;
pub(crate) mod part;
pub(crate) mod plan;
pub(crate) mod report;
pub(crate) mod rounds;
pub(crate) mod wire;
