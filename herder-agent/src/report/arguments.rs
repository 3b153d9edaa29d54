//! The arguments of victims, for those who may ask for them. They are counted, and stand in no log
//! line, no label and no Event.

use super::{Reporter, lock::Held};
use herder_model::arguments::{Arguments, KEPT, Missing, ProcessKey, ShownArguments};
use std::collections::VecDeque;

/// What is known of a victim's arguments.
pub type Known = Result<Arguments, Missing>;

/// Those of the last [`KEPT`] kills that have some, by the number of the kill.
#[derive(Debug, Default)]
pub(super) struct Kept(VecDeque<(u64, Vec<(ProcessKey, Known)>)>);

impl Kept {
    fn add(&mut self, kill: u64, victims: Vec<(ProcessKey, Known)>) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back((kill, victims));
    }

    fn of(&mut self, kill: u64) -> Option<&mut Vec<(ProcessKey, Known)>> {
        let at = self.0.binary_search_by_key(&kill, |(kill, _)| *kill).ok()?;
        self.0.get_mut(at).map(|(_, victims)| victims)
    }
}

impl Reporter {
    fn arguments(&self) -> Held<'_, Kept> {
        self.arguments.lock()
    }

    /// Keeps what is known by now of the victims of a kill whose rules ask for it.
    pub fn keep_arguments(&self, kill: u64, victims: Vec<(ProcessKey, Known)>) {
        for (_, known) in &victims {
            self.count_arguments(known);
        }
        self.arguments().add(kill, victims);
    }

    /// More is known of a victim.
    pub fn arguments_known(&self, kill: u64, process: ProcessKey, known: Known) {
        self.count_arguments(&known);
        if let Some(victims) = self.arguments().of(kill)
            && let Some((_, of)) = victims.iter_mut().find(|(victim, _)| *victim == process)
        {
            *of = known;
        }
    }

    /// No rule asks for them any more, or another one does.
    pub fn forget_arguments(&self) {
        *self.arguments() = Kept::default();
    }

    /// Those of a kill, as the API has them; none if no rule asked for them.
    pub fn arguments_of(&self, kill: u64) -> Option<Vec<ShownArguments>> {
        let mut kept = self.arguments();
        let victims = kept.of(kill)?.iter();
        Some(victims.map(|(victim, known)| ShownArguments::new(victim.tgid, known)).collect())
    }

    /// Some did not fit into the ring buffer.
    pub fn arguments_lost(&self, times: u64) {
        self.metrics.families.arguments_lost.add([], times);
    }

    fn count_arguments(&self, known: &Known) {
        let result = match known {
            Ok(_) => "read",
            // It is counted when more is known.
            Err(Missing::Waiting) => return,
            Err(missing) => missing.as_str(),
        };
        self.metrics.families.arguments.add([result], 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(tgid: u32) -> ProcessKey {
        ProcessKey { tgid, start_boottime: 1 }
    }

    #[test]
    fn what_becomes_known_replaces_what_was_waited_for() {
        let reporter = Reporter::default();
        let read = || Arguments::new(b"hog\x001", false);
        let victims = vec![(key(4), Ok(read())), (key(5), Err(Missing::Waiting))];
        reporter.keep_arguments(7, victims);
        let shown = |kill| {
            let all = reporter.arguments_of(kill)?.into_iter();
            Some(all.map(|one| (one.pid, one.text, one.missing)).collect::<Vec<_>>())
        };
        let hog = || Some("hog 1".to_owned());
        assert_eq!(shown(7), Some(vec![(4, hog(), None), (5, None, Some(Missing::Waiting))]));
        assert_eq!(shown(6), None);
        reporter.arguments_known(7, key(5), Ok(read()));
        // Of a process that is none of them, and of a kill that is not kept, nothing becomes.
        reporter.arguments_known(7, key(6), Ok(read()));
        reporter.arguments_known(9, key(5), Err(Missing::NotSeen));
        assert_eq!(shown(7), Some(vec![(4, hog(), None), (5, hog(), None)]));
        reporter.forget_arguments();
        assert_eq!(shown(7), None);
    }

    #[test]
    fn the_last_are_kept() {
        let reporter = Reporter::default();
        for kill in 1..=KEPT as u64 + 1 {
            reporter.keep_arguments(kill, vec![(key(1), Err(Missing::NotAttached))]);
        }
        assert!(reporter.arguments_of(1).is_none() && reporter.arguments_of(2).is_some());
    }
}
