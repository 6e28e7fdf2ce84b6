//! Two parties and more over a simulated link with loss, duplication, reordering and its own clock.

#![allow(clippy::unwrap_used)]

mod attacks;
mod compromise;
mod in_path;
mod joining;
mod keys;
mod late;
mod outsiders;
mod sessions;
mod world;
