//! The PC5 protection engine.
#![deny(unsafe_code)]
