//! Logging: one line for each occurrence, on standard output.
//!
//! Lines go through a bounded queue to a thread that writes them. A reader that
//! stops reading therefore costs lines, which are counted, and never time.

use crate::cli::args::{LogFormat, RunArgs};
use std::{
    env,
    io::{self, IsTerminal},
};
use tracing::Dispatch;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter, util::SubscriberInitExt};

/// Lines that may wait to be written, some 300 bytes each.
const WAITING: usize = 8192;

/// kube's client logs each failure once more, without what was asked and of whom. It also logs the
/// body of an answer that it cannot read, where a pod's environment may hold secrets. An operator
/// who asks for it by name still gets it.
const QUIET: &str = "kube_client=off";

/// Keeps logging going; what still waits is written when it is dropped.
pub struct Telemetry {
    _writer: WorkerGuard,
    dropped: ErrorCounter,
}

impl Telemetry {
    pub fn start(args: &RunArgs) -> Result<Self, tracing_subscriber::filter::ParseError> {
        let filter = filter(&args.log_level)?;
        let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(WAITING);
        let (writer, guard) = builder.finish(io::stdout());
        let dropped = writer.error_counter();
        subscriber(args.log_format, filter, colours(), writer).init();
        Ok(Telemetry { _writer: guard, dropped })
    }

    /// Counts the lines that were dropped since the start.
    pub fn dropped(&self) -> ErrorCounter {
        self.dropped.clone()
    }
}

pub fn filter(level: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    EnvFilter::builder().parse(format!("{QUIET},{level}"))
}

/// Whether standard output is to have colours (https://no-color.org).
pub fn colours() -> bool {
    let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal() && !unwanted
}

/// Writes lines in a format. Text from outside is to be handed in as a string: both
/// formats then quote it themselves, once, so that it cannot forge a line.
fn subscriber<W>(format: LogFormat, filter: EnvFilter, colours: bool, writer: W) -> Dispatch
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    let builder = builder.with_ansi(colours).with_writer(writer);
    match format {
        LogFormat::Text => builder.finish().into(),
        LogFormat::Json => builder.json().flatten_event(true).finish().into(),
    }
}

#[cfg(test)]
pub(crate) mod tests;
