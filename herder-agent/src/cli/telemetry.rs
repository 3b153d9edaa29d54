//! Logging: one line for each occurrence, on standard output.
//!
//! Lines go through a bounded queue to a thread that writes them. A reader that
//! stops reading therefore costs lines, which are counted, and never time.

use crate::cli::args::{LogFormat, RunArgs};
use herder_model::rules::parse::LogLevel;
use std::{
    env,
    io::{self, IsTerminal},
    sync::Arc,
};
use tracing::{Dispatch, level_filters::LevelFilter};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    Registry,
    filter::{ParseError, Targets},
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
    reload,
    util::SubscriberInitExt,
};

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
    levels: LogSwitch,
}

/// Why another log level is not in force.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// The library takes no such level, although the model does.
    #[error("the log level {level} cannot be used: {source}")]
    Filter { level: LogLevel, source: ParseError },
    /// Nothing logs any more.
    #[error("the log level cannot be changed: {0}")]
    Reload(#[from] reload::Error),
}

/// Changes the log level while the agent runs. Clones are the same.
#[derive(Clone)]
pub struct LogSwitch(Arc<Replace>);

type Replace = dyn Fn(Targets) -> Result<(), reload::Error> + Send + Sync;

impl LogSwitch {
    /// Logs at this level from now on. Where that fails, the earlier one stays.
    pub fn set(&self, level: &LogLevel) -> Result<(), SwitchError> {
        (self.0)(filter(level)?)?;
        // The crate `log`, by which libraries and the eBPF programs log, has a level of its own. It
        // is set when logging starts, and by nothing else.
        let level = LevelFilter::current().into_level();
        let level = level.map_or(log::LevelFilter::Off, |level| match level {
            tracing::Level::ERROR => log::LevelFilter::Error,
            tracing::Level::WARN => log::LevelFilter::Warn,
            tracing::Level::INFO => log::LevelFilter::Info,
            tracing::Level::DEBUG => log::LevelFilter::Debug,
            tracing::Level::TRACE => log::LevelFilter::Trace,
        });
        log::set_max_level(level);
        Ok(())
    }
}

impl Telemetry {
    pub fn start(args: &RunArgs) -> Result<Self, SwitchError> {
        let filter = filter(&args.log_level)?;
        let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(WAITING);
        let (writer, guard) = builder.finish(io::stdout());
        let dropped = writer.error_counter();
        let (subscriber, levels) = subscriber(args.log_format, filter, colours(), writer);
        subscriber.init();
        Ok(Telemetry { _writer: guard, dropped, levels })
    }

    /// Counts the lines that were dropped since the start.
    pub fn dropped(&self) -> ErrorCounter {
        self.dropped.clone()
    }

    pub fn levels(&self) -> LogSwitch {
        self.levels.clone()
    }
}

pub fn filter(level: &LogLevel) -> Result<Targets, SwitchError> {
    let filter = format!("{QUIET},{level}").parse::<Targets>();
    filter.map_err(|source| SwitchError::Filter { level: level.clone(), source })
}

/// Whether standard output is to have colours (https://no-color.org).
pub fn colours() -> bool {
    let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal() && !unwanted
}

/// Writes lines in a format. Text from outside is to be handed in as a string: both
/// formats then quote it themselves, once, so that it cannot forge a line.
fn subscriber<W>(
    format: LogFormat,
    filter: Targets,
    colours: bool,
    writer: W,
) -> (Dispatch, LogSwitch)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, levels) = reload::Layer::new(filter);
    let filtered = Registry::default().with(filter);
    let lines = fmt::layer().with_ansi(colours).with_writer(writer);
    let dispatch = match format {
        LogFormat::Text => filtered.with(lines).into(),
        LogFormat::Json => filtered.with(lines.json().flatten_event(true)).into(),
    };
    (dispatch, LogSwitch(Arc::new(move |filter| levels.reload(filter))))
}

#[cfg(test)]
pub(crate) mod tests;
