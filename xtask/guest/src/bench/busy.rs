//! How many programs run with the runtime's 1 where others want all processors, by the CPU
//! weight that the agent's cgroup has.

use super::figures::{found, size};
use crate::harness::creations::{saw_one_with_weight, while_others_spin};
use serde_json::json;

/// What the agent may have: requests of 10, 100 and 250 millicores are 1, 4 and 10 as runc
/// converted them until 1.3.1, and 4, 17 and 35 since; 100 is a host's service. The last runs
/// before ordinary tasks.
const AGENTS: [(&str, &[&str]); 7] = [
    ("1", &[]),
    ("4", &[]),
    ("10", &[]),
    ("17", &[]),
    ("35", &[]),
    ("100", &[]),
    ("1", &["sys_nice"]),
];

pub fn busy() {
    let programs = u32::try_from(size("programs")).expect("not that many");
    for (weight, more) in AGENTS {
        let saw_one = saw_one_with_weight(weight, more, || while_others_spin(programs));
        found(&json!({
            "weight": weight, "before others": !more.is_empty(), "programs": programs,
            "ran with 1": saw_one,
        }));
    }
}
