//! The command line of `explain`.

use super::AgentArgs;
use clap::Args;

/// Flags of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The number of the kill (ID in JSON), or `last`. The agent keeps what `explain` shows of the
    /// last 100 kills.
    #[arg(value_name = "ID", default_value = "last", value_parser = which_kill)]
    pub kill: WhichKill,
    /// Which agent, and how.
    #[command(flatten)]
    pub agent: AgentArgs,
}

/// Which kill is to be explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhichKill {
    /// The newest.
    Last,
    /// The one with this number.
    Number(u64),
}

fn which_kill(text: &str) -> Result<WhichKill, String> {
    match text {
        "last" => Ok(WhichKill::Last),
        number => number
            .parse()
            .map(WhichKill::Number)
            .map_err(|_| "neither the number of a kill nor `last`".to_owned()),
    }
}
