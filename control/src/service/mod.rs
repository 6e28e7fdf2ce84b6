//! HTTPS and sockets: the only asynchronous code, a thin driver around the procedures.

pub mod est;
pub mod https;
