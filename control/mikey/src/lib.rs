//! MIKEY, ECCSI and SAKKE.
#![forbid(unsafe_code)]
