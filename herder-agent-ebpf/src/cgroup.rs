//! Cgroups made and removed on the v2 hierarchy.
//!
//! `cgroup_mkdir` fires when the new cgroup's files exist but a moment before
//! its directory can be opened (`kernfs_activate()` follows, kernel/cgroup/cgroup.c
//! `cgroup_mkdir()`), so the agent has to try again for some microseconds. Both
//! run under `cgroup_mutex`, so the scratch room has one user at a time.

use crate::{
    kernel::{Address, Cgroup},
    maps::{CGROUPS, SCRATCH, count},
    object::header,
};
use aya_ebpf::{
    helpers::bpf_probe_read_kernel_str_bytes, macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use herder_agent_ebpf::{CgroupRecord, Loss, PATH_LEN, RecordKind};

/// A length masked with this is less than the scratch room for a path.
const PATH_MASK: usize = 2047;

/// match-proto: include/trace/events/cgroup.h:TP_PROTO(struct cgroup *cgrp, const char *path) [5.10, 6.1, 6.12, 7.2]
#[raw_tracepoint(tracepoint = "cgroup_mkdir")]
fn cgroup_mkdir(ctx: RawTracePointContext) -> i32 {
    report(&ctx, RecordKind::CgroupMkdir)
}

/// match-proto: include/trace/events/cgroup.h:TP_PROTO(struct cgroup *cgrp, const char *path) [5.10, 6.1, 6.12, 7.2]
#[raw_tracepoint(tracepoint = "cgroup_rmdir")]
fn cgroup_rmdir(ctx: RawTracePointContext) -> i32 {
    report(&ctx, RecordKind::CgroupRmdir)
}

#[inline(always)]
fn report(ctx: &RawTracePointContext, kind: RecordKind) -> i32 {
    let cgroup = Cgroup(Address(ctx.arg(0)));
    if cgroup.hierarchy().is_some_and(|hierarchy| hierarchy != 0) {
        return 0;
    }
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: this CPU's own element, with one user at a time (see above).
    let scratch = unsafe { &mut *scratch };
    let (flags, above) = cgroup.place();
    scratch.record = CgroupRecord {
        header: header(kind, flags),
        cgroup: cgroup.id().unwrap_or(0),
        above,
        reserved: 0,
    };
    let path: *const u8 = ctx.arg(1);
    // SAFETY: the helper checks the address and copies at most the given length.
    let copied = unsafe { bpf_probe_read_kernel_str_bytes(path, &mut scratch.path[..PATH_LEN]) };
    // One more byte for the NUL, which the helper wrote.
    let length = copied.map_or(0, |bytes| bytes.len() + 1);
    let total = size_of::<CgroupRecord>() + (length & PATH_MASK);
    // SAFETY: `total` is at most the size of the scratch room.
    let bytes = unsafe { core::slice::from_raw_parts((&raw const *scratch).cast::<u8>(), total) };
    if CGROUPS.output::<[u8]>(bytes, 0).is_err() {
        count(Loss::CgroupRingFull);
    }
    0
}
