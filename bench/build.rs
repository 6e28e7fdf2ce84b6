//! Compiles the C side of the peers: loops around calls that headers give as macros only.

fn main() {
    println!("cargo:rerun-if-changed=src/peers/peers.c");
    #[cfg(feature = "peers")]
    {
        cc::Build::new().file("src/peers/peers.c").opt_level(3).warnings(true).compile("pc5_peers");
        println!("cargo:rustc-link-lib=IPSec_MB");
        println!("cargo:rustc-link-lib=crypto");
    }
}
