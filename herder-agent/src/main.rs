//! The `herder-agent` program.

use clap::Parser;
use herder_agent::cli::{
    args::{Cli, Task},
    check, client,
    telemetry::Telemetry,
};
use herder_model::causes::Causes;
use std::{
    fs::OpenOptions,
    io::{self, Write},
    process::ExitCode,
};

/// Where Kubernetes reads the reason of a container's end
/// (`terminationMessagePath`).
const TERMINATION_LOG: &str = "/dev/termination-log";

fn main() -> ExitCode {
    let args = match Cli::parse().task {
        Task::Check(args) => return check::run(&args, &herder_agent::authenticates),
        Task::Kills(args) => return client::kills(&args),
        Task::Own(args) => return client::own::kills(args),
        Task::Explain(args) => return client::explain(&args),
        Task::Containers(args) => return client::containers(&args),
        Task::Run(args) => args,
    };
    let result = Telemetry::start(&args).map_err(|error| error.to_string()).and_then(|telemetry| {
        let ran = herder_agent::run(&args, &telemetry).map_err(|error| Causes(&error).to_string());
        ran.inspect_err(|error| tracing::error!(error, "Cannot run."))
    });
    let Err(error) = result else { return ExitCode::SUCCESS };
    // Only in a pod is there such a file; standard error may be closed.
    let _ = OpenOptions::new()
        .write(true)
        .open(TERMINATION_LOG)
        .and_then(|mut log| log.write_all(error.as_bytes()));
    let _ = writeln!(io::stderr(), "herder-agent: {error}");
    ExitCode::FAILURE
}
