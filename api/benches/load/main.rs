//! The load program: measures the server as its users meet it, each figure
//! beside a stated limit of the same run. `docs/BENCHMARKS.md` has the results.
//!
//! `make bench` runs it; `cargo bench -p api --bench load -- http` runs a part:
//! import, http, heavy, saves, memory, commits, fan-out, variables, latency, behind, notifications, mails, replicas.

#![expect(clippy::print_stdout, reason = "its results are what it is run for")]

mod bare;
mod commits;
mod heavy;
mod http;
mod import;
mod live;
mod memory;
mod notifications;
mod process;
mod replicas;
mod report;
mod saves;
mod socket;

use std::process::ExitCode;

fn main() -> ExitCode {
    smartpulse::tls::install();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments
        .first()
        .is_some_and(|first| first == "bare-server")
    {
        bare::serve(&arguments[1..]);
        return ExitCode::SUCCESS;
    }
    if arguments
        .first()
        .is_some_and(|first| first == "bare-broadcast")
    {
        bare::broadcast();
        return ExitCode::SUCCESS;
    }
    let wants = |part: &str| {
        let named: Vec<_> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
        named.is_empty() || named.iter().any(|name| *name == part)
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        // First: a database that others have just filled cleans up for a while.
        if wants("import") {
            import::run().await;
        }
        if wants("http") {
            http::run().await;
        }
        if wants("heavy") {
            heavy::run().await;
        }
        if wants("saves") {
            saves::run().await;
        }
        if wants("memory") {
            memory::run().await;
        }
        if wants("commits") {
            commits::run().await;
        }
        live::run(&wants).await;
        notifications::run(&wants).await;
        if wants("replicas") {
            replicas::run().await;
        }
    });
    ExitCode::SUCCESS
}
