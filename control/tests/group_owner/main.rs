//! Two parties and more over a simulated link with loss, duplication, reordering and its own clock.

mod attacks;
mod joining;
mod keys;
mod world;
