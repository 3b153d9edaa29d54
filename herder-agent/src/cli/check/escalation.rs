//! Whether rules that restart containers can do that here.

use super::{Finding, ok, warn};
use crate::kernel::cgroupfs::dir::{CgroupRoot, KILL, KillError};
use herder_model::{
    cgroup::{CgroupId, CgroupPath},
    escalation::To,
    rules::parse::Config,
};
use std::path::Path;

/// Rules that are named.
const NAMED: usize = 20;

/// Nothing if no rule restarts. `tried` is a cgroup that a rule matches, or one like it.
pub(super) fn restart(
    config: &Config,
    root: &Path,
    tried: Option<&(CgroupId, CgroupPath)>,
) -> Option<Finding> {
    let restarts = |to: To| to == To::Restart;
    let rules =
        config.rules.iter().filter(|rule| rule.escalate.is_some_and(|it| restarts(it.to())));
    let names: Vec<&str> = rules.map(|rule| &*rule.name).collect();
    if names.is_empty() {
        return None;
    }
    let more = names.len().saturating_sub(NAMED);
    let mut of = format!("for {}", names.get(..NAMED).unwrap_or(&names).join(", "));
    if more > 0 {
        of += &format!(", and {more} more rules");
    }
    let opened = tried.and_then(|(id, path)| {
        let directory = CgroupRoot::open(root).ok()?.open_dir(path, *id).ok()?;
        Some((path, directory.try_kill()))
    });
    Some(match opened {
        Some((path, Ok(()))) => ok(format!("{KILL} of {path} was opened for writing, {of}")),
        Some((path, Err(error @ KillError::Absent))) => warn(
            format!("{path}: {error}, {of}"),
            "memory.oom.group is set to 1 in place of a restart; a newer kernel restarts",
        ),
        Some((path, Err(error))) => warn(format!("{path}: {error}, {of}"), ""),
        None => ok(format!("nothing was tried: no cgroup could be opened, {of}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rules_that_restart_are_asked_about() {
        let config = |to: &str| {
            let text = format!(
                "rules: [{{name: a, cgroups: [/a], oomGroup: single-process, escalate: {{to: {to}}}}}]"
            );
            Config::parse(&text, "x").unwrap()
        };
        assert_eq!(restart(&config("group"), Path::new("/"), None), None);
        let finding = restart(&config("restart"), Path::new("/"), None).unwrap();
        assert!(finding.found.contains("for a"), "{}", finding.found);
    }
}
