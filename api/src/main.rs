//! The `smartpulse` binary: parses a subcommand and nothing else.

use clap::Parser;
use smartpulse::cli::Cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    Cli::parse().run()
}
