//! Writes the shell completions and the man pages into a directory; `cargo xtask
//! dist` runs it. An example, so that the agent itself does not carry what makes them.
#![expect(clippy::print_stderr, reason = "it is run by hand, or by xtask")]

use clap::CommandFactory;
use clap_complete::Shell;
use herder_agent::cli::args::Cli;
use std::{fs, io, path::PathBuf, process::ExitCode};

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: dist DIRECTORY");
        return ExitCode::from(2);
    };
    match write(&directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", directory.display());
            ExitCode::FAILURE
        }
    }
}

fn write(directory: &std::path::Path) -> io::Result<()> {
    let (completions, pages) = (directory.join("completions"), directory.join("man"));
    fs::create_dir_all(&completions)?;
    fs::create_dir_all(&pages)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Cli::command(), "herder-agent", &completions)?;
    }
    // The host's name would be the default of --node-name in the page.
    let command = Cli::command().mut_subcommand("run", |run| {
        run.mut_arg("node_name", |name| name.default_value("the host's name"))
    });
    clap_mangen::generate_to(command, &pages)
}
