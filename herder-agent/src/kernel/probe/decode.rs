//! From the bytes of a ring buffer to events. Pure; whatever the bytes are, the
//! result is an event or a [`DecodeError`].

mod candidates;

use bytemuck::{AnyBitPattern, pod_read_unaligned};
use herder_agent_ebpf::{
    CgroupRecord, DecisionRecord, ExitRecord, Header, LEVELS, Level, LevelsRecord, LineageRecord,
    PATH_LEN, RecordKind, VictimRecord, flag,
};
use herder_model::{
    cgroup::{CgroupId, CgroupPath, PathError},
    clock::Monotonic,
    oom::{
        Domain, NsPid, Sizes, Trigger, Victim,
        event::{Base, CUT, CgroupEvent, Decision, Event, Lineage, Mark},
        levels::{self, Levels},
    },
};
use std::{mem::offset_of, time::Duration};

/// Why bytes are no event.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecodeError {
    #[error("record of kind {kind} has only {length} bytes")]
    Short { kind: u32, length: usize },
    #[error("record of the unknown kind {0}")]
    UnknownKind(u32),
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("a cgroup's path was cut within the {levels} levels above the mount")]
    Level { levels: u32 },
}

/// Decodes one record. `page` is the page size in bytes.
pub fn decode(bytes: &[u8], page: u64) -> Result<Event, DecodeError> {
    let header: Header = read(bytes, 0)?;
    let kind = header.kind;
    if kind == RecordKind::Victim as u32 {
        Ok(Event::Marked(mark(&read(bytes, kind)?, page)))
    } else if kind == RecordKind::Decision as u32 {
        Ok(Event::Decided(decision(&read(bytes, kind)?)))
    } else if kind == RecordKind::Exit as u32 {
        let record: ExitRecord = read(bytes, kind)?;
        let after = Duration::from_nanos(record.header.time.saturating_sub(record.marked));
        Ok(Event::Exited { tgid: record.tgid, after })
    } else if kind == RecordKind::CgroupMkdir as u32 {
        Ok(cgroup(bytes, kind)?.map_or(Event::CgroupOutside, Event::CgroupMade))
    } else if kind == RecordKind::CgroupRmdir as u32 {
        Ok(cgroup(bytes, kind)?.map_or(Event::CgroupOutside, Event::CgroupRemoved))
    } else if kind == RecordKind::Candidates as u32 {
        let candidates = candidates::decode(bytes, page);
        let short = DecodeError::Short { kind, length: bytes.len() };
        candidates.map(Box::new).map(Event::Candidates).ok_or(short)
    } else if kind == RecordKind::Lineage as u32 {
        lineage(bytes).ok_or(DecodeError::Short { kind, length: bytes.len() })
    } else if kind == RecordKind::Levels as u32 {
        levels(bytes, header.flags).ok_or(DecodeError::Short { kind, length: bytes.len() })
    } else {
        Err(DecodeError::UnknownKind(kind))
    }
}

fn read<T: AnyBitPattern>(bytes: &[u8], kind: u32) -> Result<T, DecodeError> {
    let short = DecodeError::Short { kind, length: bytes.len() };
    bytes.get(..size_of::<T>()).map(pod_read_unaligned).ok_or(short)
}

fn mark(record: &VictimRecord, page: u64) -> Mark {
    let has = |bit: u32| record.header.flags & bit != 0;
    let bytes = |pages: u64| pages.saturating_mul(page);
    Mark {
        victim: Victim {
            time: Monotonic(record.header.time),
            tid: record.tid,
            tgid: record.tgid,
            ns_pid: has(flag::PID_NS)
                .then_some(NsPid { pid: record.ns_pid, level: record.ns_level }),
            start_boottime: record.start_boottime,
            cgroup: CgroupId(record.cgroup),
            parent_cgroup: has(flag::PARENT).then_some(CgroupId(record.parent_cgroup)),
            memory_cgroup: (record.memory_cgroup != 0).then_some(CgroupId(record.memory_cgroup)),
            is_outside: has(flag::OUTSIDE),
            comm: comm(&record.comm),
            uid: record.uid,
            oom_score_adj: has(flag::SCORE).then_some(record.oom_score_adj),
            sizes: has(flag::SIZES).then_some(Sizes {
                total_vm: bytes(record.total_vm),
                anon_rss: bytes(record.anon_rss),
                file_rss: bytes(record.file_rss),
                shmem_rss: bytes(record.shmem_rss),
            }),
        },
        trigger: Trigger {
            tid: record.trigger_tid,
            tgid: record.trigger_tgid,
            cgroup: CgroupId(record.trigger_cgroup),
            comm: comm(&record.trigger_comm),
        },
        decision: has(flag::DECISION).then_some(record.decision),
        killed: has(flag::KILLED),
    }
}

fn decision(record: &DecisionRecord) -> Decision {
    let domain = match record.domain_cgroup {
        _ if record.header.flags & flag::DOMAIN == 0 => Domain::Unknown,
        0 => Domain::Node,
        _ if record.header.flags & flag::OUTSIDE != 0 => Domain::Outside,
        id => Domain::Cgroup(CgroupId(id)),
    };
    Decision {
        decision: record.decision,
        domain,
        group: record.group_cgroup != 0,
        group_cgroup: match record.group_cgroup {
            0 | u64::MAX => None,
            id => Some(CgroupId(id)),
        },
        kills: record.kills,
        marks: record.marks,
    }
}

/// Of the record only as much is there as there are cgroups.
fn lineage(bytes: &[u8]) -> Option<Event> {
    let above = bytes.get(offset_of!(LineageRecord, above)..)?;
    let cgroup = bytes.get(offset_of!(LineageRecord, cgroup)..)?;
    let id = |bytes: &[u8; 8]| CgroupId(u64::from_ne_bytes(*bytes));
    let cgroup = id(cgroup.first_chunk()?);
    let above = above.as_chunks().0.iter().take(LEVELS).map(id).collect();
    Some(Event::Lineage(Lineage { cgroup, above }))
}

/// Of the record only as much is there as there are memory cgroups.
fn levels(bytes: &[u8], flags: u32) -> Option<Event> {
    let trigger = bytes.get(offset_of!(LevelsRecord, trigger_tid)..)?.first_chunk()?;
    let levels = bytes.get(offset_of!(LevelsRecord, levels)..)?;
    let level = |bytes: &[u8; size_of::<Level>()]| {
        let Level { cgroup, oom, group } = pod_read_unaligned(bytes);
        levels::Level { cgroup: CgroupId(cgroup), oom: u64::from(oom), group: group != 0 }
    };
    Some(Event::Levels(Levels {
        trigger: u32::from_ne_bytes(*trigger),
        upwards: levels.as_chunks().0.iter().take(LEVELS).map(level).collect(),
        is_whole: flags & flag::WHOLE != 0,
    }))
}

/// None for a cgroup that the agent's mount does not show.
fn cgroup(bytes: &[u8], kind: u32) -> Result<Option<CgroupEvent>, DecodeError> {
    let record: CgroupRecord = read(bytes, kind)?;
    if record.header.flags & flag::OUTSIDE != 0 {
        return Ok(None);
    }
    let whole = kernel_path(until_nul(bytes.get(size_of::<CgroupRecord>()..).unwrap_or_default()))?;
    let id = (record.cgroup != 0).then_some(CgroupId(record.cgroup));
    if record.header.flags & flag::INSIDE == 0 {
        return Ok(Some(CgroupEvent { id, path: whole, base: Base::Hierarchy }));
    }
    let above = usize::try_from(record.above).unwrap_or(usize::MAX);
    let path = whole.from_level(above).ok_or(DecodeError::Level { levels: record.above })?;
    Ok(Some(CgroupEvent { id, path, base: Base::Mount }))
}

/// The kernel cuts a path that is too long, also within a name. Where the cgroup is still
/// holds for those above it, so one that has no name stands for it.
fn kernel_path(bytes: &[u8]) -> Result<CgroupPath, PathError> {
    if bytes.len() < PATH_LEN - 1 {
        return CgroupPath::parse(bytes);
    }
    let end = bytes.iter().rposition(|byte| *byte == b'/').unwrap_or_default();
    CgroupPath::parse(bytes.get(..end).unwrap_or_default())?.child(CUT.as_bytes())
}

/// A command name as text: the process chose it, so it may be anything.
fn comm(bytes: &[u8]) -> String {
    String::from_utf8_lossy(until_nul(bytes)).into_owned()
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests;
