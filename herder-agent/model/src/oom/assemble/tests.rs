use super::*;
use crate::{cgroup::CgroupId, oom::levels::Level};

const TRACED: Traced = Traced {
    decisions_since: Some(Monotonic::ZERO),
    kills: true,
    groups: true,
    signals_since: None,
    levels: false,
    at_exit: false,
    exits: true,
    candidates: true,
    cgroups: true,
};
const NOTHING: Traced = Traced { decisions_since: None, kills: false, groups: false, ..TRACED };
const SECOND: Duration = Duration::from_secs(1);
const NOW: Monotonic = Monotonic(100_000_000_000);

fn mark(tgid: u32, tid: u32, decision: Option<u64>) -> Mark {
    let victim = Victim {
        tid,
        tgid,
        start_boottime: 1,
        comm: "hog".into(),
        ..Victim::nameless(CgroupId(10), NOW)
    };
    let trigger = Trigger { tid: 1, tgid: 1, cgroup: CgroupId(10), comm: "trigger".into() };
    Mark { victim, trigger, decision, killed: decision.is_some() }
}

fn end(decision: u64, kills: u32, marks: u32, group: bool) -> Decision {
    Decision {
        decision,
        domain: Domain::Cgroup(CgroupId(10)),
        group,
        group_cgroup: None,
        kills,
        marks,
    }
}

/// Each outcome in short: the processes of a kill and whether it is a group.
fn reported(assembler: &mut Assembler) -> Vec<String> {
    let say = |outcome| match outcome {
        Outcome::Kill(kill) => {
            let victims: Vec<u32> = kill.victims.iter().map(|victim| victim.tgid).collect();
            format!("kill {victims:?} group {:?}", kill.group)
        }
        Outcome::NoKill(reason, victim) => format!("{reason:?} {}", victim.tid),
        Outcome::Missing(count) => format!("missing {count}"),
    };
    assembler.outcomes().into_iter().map(say).collect()
}

#[test]
fn one_victim_is_one_kill_at_the_end_of_its_decision() {
    let mut assembler = Assembler::new(TRACED);
    assembler.marked(mark(5, 5, Some(1)), NOW);
    assert!(reported(&mut assembler).is_empty(), "not before the kernel is done");
    assembler.decided(end(1, 1, 1, false), NOW);
    assert_eq!(reported(&mut assembler), ["kill [5] group Some(false)"]);
    assert_eq!(assembler.deadline(), None);
}

#[test]
fn a_group_is_one_kill_even_of_a_single_process() {
    let mut assembler = Assembler::new(TRACED);
    for tgid in [5, 6, 7] {
        assembler.marked(mark(tgid, tgid, Some(1)), NOW);
    }
    assembler.decided(end(1, 4, 3, true), NOW);
    assembler.marked(mark(8, 8, Some(2)), NOW);
    assembler.decided(end(2, 2, 1, true), NOW);
    assert_eq!(
        reported(&mut assembler),
        ["kill [5, 6, 7] group Some(true)", "kill [8] group Some(true)"]
    );
}

#[test]
fn threads_of_one_process_are_one_victim() {
    let mut assembler = Assembler::new(TRACED);
    assembler.marked(mark(5, 5, Some(1)), NOW);
    assembler.marked(mark(5, 9, Some(1)), NOW);
    assembler.decided(end(1, 2, 2, true), NOW);
    // Dying threads that enter the OOM path again, later, without a decision.
    let mut dying = mark(5, 10, None);
    dying.trigger.tid = 10;
    assembler.marked(dying, NOW);
    assembler.marked(mark(5, 11, None), NOW);
    assert_eq!(
        reported(&mut assembler),
        ["Duplicate 9", "kill [5] group Some(true)", "AlreadyDying 10", "Duplicate 11"]
    );
    assert_eq!(assembler.deadline(), None, "nothing is waited for");
}

#[test]
fn a_mark_of_a_dying_task_is_no_kill_but_a_later_kill_is() {
    let mut assembler = Assembler::new(TRACED);
    let mut dying = mark(5, 5, Some(1));
    dying.killed = false;
    assembler.marked(dying, NOW);
    assembler.decided(end(1, 0, 1, false), NOW);
    assert_eq!(reported(&mut assembler), ["AlreadyDying 5"]);
    assembler.marked(mark(5, 5, Some(2)), NOW);
    assembler.decided(end(2, 1, 1, false), NOW);
    assert_eq!(reported(&mut assembler), ["kill [5] group Some(false)"]);
}

#[test]
fn a_reused_process_id_is_another_process() {
    let mut assembler = Assembler::new(TRACED);
    assembler.marked(mark(5, 5, Some(1)), NOW);
    assembler.decided(end(1, 1, 1, false), NOW);
    let mut reused = mark(5, 5, Some(2));
    reused.victim.start_boottime = 2;
    assembler.marked(reused, NOW);
    assembler.decided(end(2, 1, 1, false), NOW);
    assert_eq!(reported(&mut assembler).len(), 2);
}

#[test]
fn lost_records_are_reported() {
    let mut assembler = Assembler::new(TRACED);
    assembler.decided(end(1, 1, 1, false), NOW);
    assert_eq!(reported(&mut assembler), ["missing 1"]);
    assembler.marked(mark(5, 5, Some(2)), NOW);
    assembler.decided(end(2, 4, 3, true), NOW);
    assert_eq!(reported(&mut assembler), ["missing 2", "kill [5] group Some(true)"]);
    // A chosen victim that had no memory left was not marked at all.
    assembler.decided(end(3, 1, 0, false), NOW);
    assert!(reported(&mut assembler).is_empty());
}

#[test]
fn a_decision_whose_end_is_lost_is_a_kill_after_a_while() {
    let mut assembler = Assembler::new(TRACED);
    assembler.marked(mark(5, 5, Some(1)), NOW);
    assembler.expire(NOW + (END_WAIT - Duration::from_nanos(1)));
    assert!(reported(&mut assembler).is_empty());
    assembler.expire(assembler.deadline().unwrap());
    assert_eq!(reported(&mut assembler), ["kill [5] group None"]);
}

#[test]
fn an_end_that_is_known_to_be_lost_is_not_waited_for() {
    let mut assembler = Assembler::new(TRACED);
    assembler.marked(mark(5, 5, Some(1)), NOW);
    assembler.records_lost(NOW);
    assembler.expire(NOW + LOST_END_WAIT);
    assert_eq!(reported(&mut assembler), ["kill [5] group None"]);
    let mut assembler = Assembler::new(Traced { at_exit: true, ..TRACED });
    assembler.marked(mark(5, 5, Some(1)), NOW);
    assembler.decided(end(1, 3, 2, true), NOW);
    assembler.records_lost(NOW);
    assembler.expire(NOW + LOST_END_WAIT);
    assert_eq!(reported(&mut assembler), ["missing 1", "kill [5] group Some(true)"]);
}

#[test]
fn victims_described_at_their_exit_are_waited_for() {
    let mut assembler = Assembler::new(Traced { at_exit: true, ..TRACED });
    assembler.decided(end(1, 3, 2, true), NOW);
    assembler.marked(mark(5, 5, Some(1)), NOW);
    assert!(reported(&mut assembler).is_empty());
    assembler.marked(mark(6, 6, Some(1)), NOW);
    assert_eq!(reported(&mut assembler), ["kill [5, 6] group Some(true)"]);
    assembler.decided(end(2, 2, 2, true), NOW);
    assembler.marked(mark(7, 7, Some(2)), NOW);
    assembler.expire(NOW + EXIT_WAIT);
    assert_eq!(reported(&mut assembler), ["missing 1", "kill [7] group Some(true)"]);
}

#[test]
fn without_decisions_marks_of_one_trigger_are_one_kill() {
    let mut assembler = Assembler::new(NOTHING);
    assembler.marked(mark(5, 5, None), NOW);
    assembler.marked(mark(6, 6, None), NOW);
    assembler.expire(NOW + INFERENCE_WINDOW);
    assembler.marked(mark(7, 7, None), NOW + SECOND);
    assembler.expire(NOW + 2 * SECOND);
    assert_eq!(reported(&mut assembler), ["kill [5, 6] group None", "kill [7] group None"]);
}

/// They come when their victims exit, which may be at the same moment.
#[test]
fn without_decisions_marks_far_apart_are_two_kills_however_late_they_come() {
    let mut assembler = Assembler::new(Traced { at_exit: true, ..NOTHING });
    assembler.marked(mark(5, 5, None), NOW + SECOND);
    let mut later = mark(6, 6, None);
    later.victim.time = NOW + INFERENCE_WINDOW + Duration::from_nanos(1);
    assembler.marked(later, NOW + SECOND);
    assembler.expire(NOW + 2 * SECOND);
    assert_eq!(reported(&mut assembler), ["kill [5] group None", "kill [6] group None"]);
}

/// A kernel writes a line to its console for each victim, and a serial console
/// takes its time.
#[test]
fn a_slow_group_kill_is_one_kill() {
    let mut assembler = Assembler::new(TRACED);
    for (number, tgid) in [(0, 5), (1, 6), (2, 7), (3, 8)] {
        let now = NOW + number * 20 * SECOND;
        assembler.expire(now);
        assembler.marked(mark(tgid, tgid, Some(1)), now);
    }
    assembler.decided(end(1, 5, 4, true), NOW + 80 * SECOND);
    assert_eq!(reported(&mut assembler), ["kill [5, 6, 7, 8] group Some(true)"]);
}

#[test]
fn a_later_decision_shows_that_the_end_of_an_earlier_one_is_lost() {
    let mut assembler = Assembler::new(TRACED);
    assembler.marked(mark(5, 5, Some(1)), NOW);
    assembler.marked(mark(6, 6, Some(2)), NOW);
    assert_eq!(reported(&mut assembler), ["kill [5] group None"]);
    assembler.decided(end(3, 1, 0, false), NOW);
    assert_eq!(reported(&mut assembler), ["kill [6] group None"]);
}

/// The programs attach one after the other: a kill that is under way just then
/// has no decision, and is still a kill.
#[test]
fn a_kill_at_start_up_is_not_taken_for_a_dying_task() {
    let mut assembler = Assembler::new(Traced { decisions_since: Some(NOW), ..TRACED });
    let mut own = mark(5, 5, None);
    own.trigger.tid = 5;
    assembler.marked(own, NOW);
    assembler.expire(NOW + INFERENCE_WINDOW);
    assert_eq!(reported(&mut assembler), ["kill [5] group None"]);
}

/// The kernel marks only the trigger outside of a decision, so this is one
/// that was not seen to begin.
#[test]
fn a_mark_of_another_task_is_a_kill_although_its_decision_was_not_seen() {
    let mut assembler = Assembler::new(TRACED);
    assembler.marked(mark(5, 5, None), NOW);
    assembler.expire(NOW + INFERENCE_WINDOW);
    assert_eq!(reported(&mut assembler), ["kill [5] group None"]);
    assert!(assembler.has_killed(5) && !assembler.has_killed(6));
}

#[test]
fn killed_processes_are_forgotten() {
    let mut assembler = Assembler::new(TRACED);
    assembler.marked(mark(5, 5, Some(1)), NOW);
    assembler.decided(end(1, 1, 1, false), NOW);
    assembler.expire(NOW + REMEMBER);
    assert!(assembler.killed.is_empty());
}

/// Where no decision is traced, the caller says whose limit was hit, once for each kill.
#[test]
fn the_limit_of_an_inferred_kill_is_what_was_said_first() {
    let of = |domain| Inferred { domain, group: None, group_cgroup: None };
    let mut assembler = Assembler::new(NOTHING);
    let domains = |assembler: &mut Assembler| {
        let domain = |outcome| match outcome {
            Outcome::Kill(kill) => kill.domain,
            other => panic!("{other:?}"),
        };
        assembler.outcomes().into_iter().map(domain).collect::<Vec<_>>()
    };
    assert!(!assembler.wants_inferred(1), "there is no kill");
    assembler.marked(mark(10, 10, None), NOW);
    assert!(assembler.wants_inferred(1));
    assembler.set_inferred(1, of(Domain::Cgroup(CgroupId(7))));
    assert!(!assembler.wants_inferred(1));
    assembler.marked(mark(11, 11, None), NOW);
    assembler.set_inferred(1, of(Domain::Node));
    assembler.expire(NOW + SECOND);
    assert_eq!(domains(&mut assembler), [Domain::Cgroup(CgroupId(7))]);
    assembler.marked(mark(12, 12, None), NOW + SECOND);
    assembler.expire(NOW + SECOND * 2);
    assert_eq!(domains(&mut assembler), [Domain::Unknown], "nothing was inferred");
    // Where decisions are traced the kernel says it.
    let mut assembler = Assembler::new(TRACED);
    assembler.marked(mark(10, 10, Some(5)), NOW);
    assert!(!assembler.wants_inferred(1));
}

/// A victim of this cgroup below cgroup 2, whose limit was hit.
fn levels(cgroup: u64, group: Option<u64>) -> (Levels, Inferred) {
    let level = |id| Level { cgroup: CgroupId(id), oom: 1, group: group == Some(id) };
    let upwards = [cgroup, 2, 1].map(level).into();
    let inferred = Inferred {
        domain: Domain::Cgroup(CgroupId(2)),
        group: Some(group.is_some()),
        group_cgroup: group.map(CgroupId),
    };
    (Levels { trigger: 1, upwards, is_whole: true }, inferred)
}

fn marked_within(assembler: &mut Assembler, tgid: u32, (levels, inferred): (Levels, Inferred)) {
    assembler.begins_within(&levels);
    assembler.marked(mark(tgid, tgid, None), NOW);
    if assembler.wants_inferred(1) {
        assembler.set_inferred(1, inferred);
    }
}

/// A trigger that goes on needs memory again, before the window is over.
#[test]
fn an_inferred_kill_that_is_no_groups_has_one_victim_and_waits_for_none() {
    let mut assembler = Assembler::new(NOTHING);
    for tgid in [5, 6] {
        marked_within(&mut assembler, tgid, levels(3, None));
    }
    assert_eq!(
        reported(&mut assembler),
        ["kill [5] group Some(false)", "kill [6] group Some(false)"]
    );
    assert_eq!(assembler.deadline(), None);
}

#[test]
fn an_inferred_group_has_its_own_victims_only() {
    let mut assembler = Assembler::new(NOTHING);
    for (tgid, cgroup) in [(5, 3), (6, 3), (7, 4), (8, 4)] {
        marked_within(&mut assembler, tgid, levels(cgroup, Some(cgroup)));
    }
    assert_eq!(reported(&mut assembler), ["kill [5, 6] group Some(true)"]);
    marked_within(&mut assembler, 9, levels(5, None));
    assembler.expire(NOW + INFERENCE_WINDOW);
    assert_eq!(
        reported(&mut assembler),
        ["kill [7, 8] group Some(true)", "kill [9] group Some(false)"]
    );
}

/// Where signals are seen but decisions are not, a mark without a signal is no kill.
#[test]
fn a_mark_without_a_signal_is_no_kill_where_signals_are_seen() {
    let traced = Traced { signals_since: Some(Monotonic::ZERO), ..NOTHING };
    let mut assembler = Assembler::new(traced);
    let killed = |tgid, killed| Mark { killed, ..mark(tgid, tgid, None) };
    assembler.marked(killed(5, false), NOW);
    assembler.marked(killed(6, true), NOW);
    assembler.expire(NOW + INFERENCE_WINDOW);
    assert_eq!(reported(&mut assembler), ["AlreadyDying 5", "kill [6] group None"]);
    let just_now = Traced { signals_since: Some(NOW), ..NOTHING };
    for traced in [just_now, NOTHING] {
        let mut assembler = Assembler::new(traced);
        assembler.marked(killed(5, false), NOW);
        assembler.expire(NOW + INFERENCE_WINDOW);
        assert_eq!(reported(&mut assembler), ["kill [5] group None"]);
    }
}
