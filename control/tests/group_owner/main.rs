//! Two parties and more over a simulated link with loss, duplication, reordering and its own clock.

#![allow(clippy::unwrap_used)]

mod attacks;
mod compromise;
mod joining;
mod keys;
mod outsiders;
mod sessions;
mod world;
