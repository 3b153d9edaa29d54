//! The frame around the marks: one call of `oom_kill_process()` is one kill.
//!
//! These programs are optional. They attach where BTF has the functions; they
//! say which marks belong together, whose limit was hit, whether a group was
//! killed, and which marks are no kills. All of it runs under `oom_lock`.

use crate::{
    kernel::{Address, Cgroup, mem_cgroup, oom_domain},
    maps::{DECISIONS, Decision, KILLS, count},
    object::{current_tid, header, now},
    walk,
};
use aya_ebpf::{
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};
use herder_agent_ebpf::{DecisionRecord, Loss, RecordKind, flag};

/// match-proto: mm/oom_kill.c:static void oom_kill_process(struct oom_control *oc, const char *message) [5.10, 6.1, 6.12, 7.2]
#[fentry(function = "oom_kill_process")]
fn decision_begin(ctx: FEntryContext) -> i32 {
    let domain = oom_domain(Address(ctx.arg(0)));
    let (domain_cgroup, place) = domain.unwrap_or((0, 0));
    let decision = Decision {
        began: now(),
        domain_cgroup,
        group_cgroup: 0,
        kills: 0,
        marks: 0,
        flags: if domain.is_some() { place | flag::DOMAIN } else { 0 },
        reserved: 0,
    };
    if DECISIONS.insert(&current_tid(), &decision, 0).is_err() {
        count(Loss::DecisionMapFull);
    }
    walk::measure(Address(ctx.arg(0)));
    0
}

/// match-proto: mm/oom_kill.c:static void __oom_kill_process(struct task_struct *victim, const char *message) [5.10, 6.1, 6.12, 7.2]
#[fentry(function = "__oom_kill_process")]
fn decision_kill(_ctx: FEntryContext) -> i32 {
    if let Some(decision) = DECISIONS.get_ptr_mut(&current_tid()) {
        // SAFETY: only this thread touches the entry of its own id.
        unsafe { (*decision).kills += 1 };
    }
    0
}

/// match-proto: mm/memcontrol.c:void mem_cgroup_print_oom_group(struct mem_cgroup *memcg) [5.10, 6.1, 6.12, 7.2]
#[fentry(function = "mem_cgroup_print_oom_group")]
fn decision_group(ctx: FEntryContext) -> i32 {
    if let Some(decision) = DECISIONS.get_ptr_mut(&current_tid()) {
        // The function is called for group kills only; where the id cannot be
        // read, a number that is no cgroup still says that it was one.
        let group = mem_cgroup(Address(ctx.arg(0))).and_then(Cgroup::id).unwrap_or(u64::MAX);
        // SAFETY: only this thread touches the entry of its own id.
        unsafe { (*decision).group_cgroup = group };
    }
    0
}

#[fexit(function = "oom_kill_process")]
fn decision_end(ctx: FExitContext) -> i32 {
    let tid = current_tid();
    // SAFETY: the entry is removed only below, by this same thread.
    let Some(decision) = (unsafe { DECISIONS.get(&tid) }) else {
        return 0;
    };
    let record = DecisionRecord {
        header: header(RecordKind::Decision, decision.flags),
        decision: decision.began,
        domain_cgroup: decision.domain_cgroup,
        group_cgroup: decision.group_cgroup,
        kills: decision.kills,
        marks: decision.marks,
    };
    #[cfg(feature = "log")]
    aya_log_ebpf::debug!(&ctx, "decided: {} kills, {} marks", record.kills, record.marks);
    #[cfg(not(feature = "log"))]
    let _ = ctx;
    // Nothing to do if this fails: the entry is in the map, as seen above.
    let _ = DECISIONS.remove(&tid);
    walk::submit(record.decision);
    if KILLS.output::<DecisionRecord>(&record, 0).is_err() {
        count(Loss::DecisionRingFull);
    }
    0
}
