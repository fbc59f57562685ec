//! The peer: Go on Linux in the same emulator, with the same CPUs, for the same operations.
//!
//! [`program`] (Go's side, as one static program) → [`initramfs`] → [`guest`] (a Linux kernel that runs nothing else) →
//! rows of the same form as ours, as the program prints the same lines. [`rounds`] boots both in turns and joins the rows.

use clap::{Args, ValueEnum};

use crate::bench::args::BenchOptions;
use crate::bench::run::{self, Measured};
use crate::elf::Program;
use crate::error::Error;

pub mod guest;
pub mod initramfs;
pub mod program;
pub mod ratios;
pub mod rounds;

/// With whom we are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// Go's runtime on Linux.
    Go,
}

/// Options about the peer.
#[derive(Clone, Debug, Args)]
pub struct PeerOptions {
    /// Boot this peer too, in turns with gzero, and compare; ./setup.sh --peer installs what it needs.
    #[arg(long, value_name = "NAME")]
    pub peer: Option<Peer>,
    /// How often gzero and the peer are booted in turns.
    #[arg(long, value_name = "N", default_value = "2", requires = "peer", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
}

/// Measures what the options ask for: ours, or ours and the peer's in turns.
///
/// # Errors
///
/// Whatever keeps one of the machines from starting, and [`Error::Peer`] for what the peer lacks.
pub fn measure(options: &BenchOptions, program: &Program) -> Result<Measured, Error> {
    match options.peer.peer {
        None => run::measure(options, program),
        Some(Peer::Go) => {
            let folder = program::folder();
            let guest = guest::Guest::prepare(&folder)?;
            let ours = || run::measure(options, program);
            rounds::in_turns(options.peer.rounds, ours, || guest.measure(options))
        }
    }
}
