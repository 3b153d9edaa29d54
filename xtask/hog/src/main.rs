//! The workload that Herder is tried on: an init whose children grow and burn CPU
//! until one of them is OOM-killed, and which starts each again that ended.
//!
//! It stands for what dies as a whole with `memory.oom.group=1` though it would
//! get over the loss of one child: postgres, gunicorn, php-fpm.

mod child;
mod init;
mod said;
mod settings;

use settings::Settings;
use std::{
    env,
    io::{self, Write},
    process::ExitCode,
};

fn main() -> ExitCode {
    let ran = match env::args().nth(1).as_deref() {
        None => Settings::read(|name| env::var(name).ok()).and_then(|it| init::run(&it)),
        // What the init starts; no one else is meant to.
        Some("child") => child::run(env::args().skip(2)),
        Some(other) => {
            Err(format!("{other:?} is no argument; settings are variables HOG_…").into())
        }
    };
    let Err(error) = ran else { return ExitCode::SUCCESS };
    // Where it cannot be written to, no one reads it.
    let _ = writeln!(io::stderr(), "herder-hog: {error}");
    ExitCode::FAILURE
}
