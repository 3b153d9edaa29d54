//! The commit that a build is of.

use crate::command::{self, asked, workspace};
use std::sync::OnceLock;

/// What the workspace was checked out from.
#[derive(Clone)]
pub struct Source {
    /// The commit, with `-dirty` if files differ from it.
    pub revision: String,
    /// When the commit was made, RFC 3339, UTC.
    pub time: String,
    /// The same in seconds since 1970.
    pub epoch: u64,
}

/// The commit; none where there is no git or no repository. All that a task makes is of the commit
/// that it began with.
pub fn source() -> Option<Source> {
    static SOURCE: OnceLock<Option<Source>> = OnceLock::new();
    SOURCE.get_or_init(read).clone()
}

fn read() -> Option<Source> {
    let git = |arguments: &[&str]| {
        let mut git = command::git(&workspace());
        asked(git.env("TZ", "UTC").args(arguments)).map(|text| text.trim().to_owned())
    };
    let commit = git(&["rev-parse", "HEAD"])?;
    let time = git(&["log", "-1", "--date=format-local:%Y-%m-%dT%H:%M:%SZ", "--format=%cd"])?;
    let epoch = git(&["log", "-1", "--format=%ct"])?.parse().ok()?;
    // Figures are no part of a build, and are written by one measure after the other.
    let paths = [".", ":!docs/benchmarks.json", ":!docs/benchmarks.md"];
    let status = [&["status", "--porcelain", "--untracked-files=no", "--"][..], &paths].concat();
    let dirty = !git(&status)?.is_empty();
    Some(Source { revision: commit + if dirty { "-dirty" } else { "" }, time, epoch })
}
