//! Which cgroups lie above that of a victim.
//!
//! The agent does not keep every cgroup: whom a subtree is delegated to may make them by the
//! hundred thousand, and faster than they can be told. By those above it a kill is its
//! container's all the same.

use crate::maps::{KILLS, LAST_LINEAGE, LINEAGE, count};
use aya_ebpf::helpers::bpf_ktime_get_ns;
use herder_agent_ebpf::{Header, LEVELS, LineageRecord, Loss, RecordKind};

/// A length masked with this is less than the room for a record.
const MASK: usize = 511;

/// Hands over what is above a cgroup of this level, unless that was the last one too:
/// the processes of a group die one after the other.
#[inline(always)]
pub(crate) fn submit(cgroup: u64, level: u32, above: impl Fn(u32) -> Option<u64>) {
    let (Some(last), Some(room)) = (LAST_LINEAGE.get_ptr_mut(0), LINEAGE.get_ptr_mut(0)) else {
        return;
    };
    // SAFETY: the element lives as long as the map. Of two that write at once, one is handed
    // over again.
    if unsafe { *last } == cgroup {
        return;
    }
    // SAFETY: this CPU's own element; a victim is described where nothing else is on the CPU.
    let room = unsafe { &mut *room };
    let mut length = size_of::<LineageRecord>() - LEVELS * size_of::<u64>();
    room.record.header = Header {
        kind: RecordKind::Lineage as u32,
        flags: 0,
        // SAFETY: the helper has no preconditions.
        time: unsafe { bpf_ktime_get_ns() },
    };
    room.record.cgroup = cgroup;
    for (at, id) in room.record.above.iter_mut().enumerate() {
        let this = at as u32 + 1;
        let Some(found) = (if this < level { above(this) } else { None }) else {
            break;
        };
        *id = found;
        length += size_of::<u64>();
    }
    // SAFETY: the masked length is less than the size of the room.
    let bytes =
        unsafe { core::slice::from_raw_parts((&raw const *room).cast::<u8>(), length & MASK) };
    if KILLS.output::<[u8]>(bytes, 0).is_err() {
        count(Loss::LineageRingFull);
        return;
    }
    // SAFETY: as above.
    unsafe { *last = cgroup };
}
