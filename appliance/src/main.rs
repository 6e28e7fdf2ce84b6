//! `pc5`: ProSe security for Linux. One subcommand a file under `cmd`.
#![forbid(unsafe_code)]

mod cmd;
mod exit;
mod replay;
mod report;
mod run;
mod whole_file;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Parser, Subcommand};

use crate::exit::{Exit, usage_if_missing};

/// ProSe (3GPP proximity services) security for Linux.
#[derive(Parser)]
#[command(name = "pc5", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Key, protect, bridge and verify every frame of a capture.
    Replay(Box<cmd::replay::Args>),
    /// MIKEY messages: inspect, open, verify, make.
    Mikey(cmd::mikey::Args),
    /// This machine's suites and kernels, quick table.
    Bench(cmd::bench::Args),
    /// The appliance daemon: group owner or UE, by configuration.
    Run(cmd::run::Args),
    /// Check a configuration of the daemon; nothing is opened.
    Check(cmd::check::Args),
    /// Show what a running daemon knows.
    Show(cmd::show::Args),
    /// Live rates and events of a running daemon.
    Top(cmd::top::Args),
    /// Change a group's key, or who may be in it.
    Group(cmd::group::Args),
    /// Re-key a link; at a UE, join its owner or leave.
    Link(cmd::link::Args),
    /// Counters of a running daemon.
    Counters(cmd::counters::Args),
    /// Laboratory certification authority: roots, certificates, revocation.
    Pki(cmd::pki::Args),
    /// Network functions over HTTPS.
    Serve(cmd::serve::Args),
    /// One computation from hexadecimal arguments: cipher, mac, seal, open, kdf.
    Algo(cmd::algo::Args),
}

fn main() -> std::process::ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version go to standard output and are no failure.
            let _ = e.print();
            return if e.use_stderr() { Exit::Usage.into() } else { Exit::Ok.into() };
        }
    };
    if !matches!(cli.command, Command::Run(_) | Command::Serve(_)) {
        end_with_the_reader();
    }
    let result = match cli.command {
        Command::Replay(args) => cmd::replay::run(*args),
        // Every file that these two take is named on the command line.
        Command::Mikey(args) => cmd::mikey::run(args).map_err(usage_if_missing),
        Command::Pki(args) => cmd::pki::run(args).map_err(usage_if_missing),
        Command::Bench(args) => cmd::bench::run(args),
        Command::Run(args) => cmd::run::run(args),
        Command::Check(args) => cmd::check::run(args),
        Command::Show(args) => cmd::show::run(args),
        Command::Top(args) => cmd::top::run(args),
        Command::Group(args) => cmd::group::run(args),
        Command::Link(args) => cmd::link::run(args),
        Command::Counters(args) => cmd::counters::run(args),
        Command::Serve(args) => cmd::serve::run(args),
        Command::Algo(args) => cmd::algo::run(args),
    };
    exit::report(result)
}

/// Whoever reads what is printed may have enough of it, as `head` has: that ends the program quietly, as it does others.
fn end_with_the_reader() {
    let always = Arc::new(AtomicBool::new(true));
    // Where that cannot be had, printing ends the program with a message.
    let _ = signal_hook::flag::register_conditional_default(signal_hook::consts::SIGPIPE, always);
}
