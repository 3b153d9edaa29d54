//! From the bytes of a ring buffer to events. Pure; whatever the bytes are, the
//! result is an event or a [`DecodeError`].

use bytemuck::{AnyBitPattern, pod_read_unaligned};
use herder_agent_ebpf::{
    CgroupRecord, DecisionRecord, ExitRecord, Header, LEVELS, LineageRecord, PATH_LEN, RecordKind,
    VictimRecord, flag,
};
use herder_model::{
    cgroup::{CgroupId, CgroupPath, PathError},
    clock::Monotonic,
    event::{Base, CUT, CgroupEvent, Decision, Event, Lineage, Mark},
    oom::{Domain, NsPid, Sizes, Trigger, Victim},
};
use std::{mem::offset_of, time::Duration};

/// Why bytes are no event.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecodeError {
    /// Too short for what it says it is.
    #[error("record of kind {kind} has only {length} bytes")]
    Short {
        /// [`RecordKind`] as its number; 0 if not even that is there.
        kind: u32,
        /// Bytes that are there.
        length: usize,
    },
    /// Made by other programs than this agent's.
    #[error("record of the unknown kind {0}")]
    UnknownKind(u32),
    /// A cgroup whose path cannot be used.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A cgroup whose path was cut above the mount.
    #[error("a cgroup's path was cut within the {levels} levels above the mount")]
    Level {
        /// Levels above the mount.
        levels: u32,
    },
}

/// Decodes one record. `page` is the page size in bytes.
///
/// # Errors
/// When it is too short, of an unknown kind, or has an unusable path.
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
    } else if kind == RecordKind::Lineage as u32 {
        lineage(bytes).ok_or(DecodeError::Short { kind, length: bytes.len() })
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
mod tests {
    use super::*;
    use bytemuck::bytes_of;

    const PAGE: u64 = 4096;

    fn header(kind: RecordKind, flags: u32) -> Header {
        Header { kind: kind as u32, flags, time: 1_000 }
    }

    #[test]
    fn every_cut_of_every_record_is_an_error_or_an_event() {
        let victim = VictimRecord { header: header(RecordKind::Victim, 0), ..Default::default() };
        let decision =
            DecisionRecord { header: header(RecordKind::Decision, 0), ..Default::default() };
        let exit = ExitRecord { header: header(RecordKind::Exit, 0), ..Default::default() };
        for whole in [bytes_of(&victim), bytes_of(&decision), bytes_of(&exit)] {
            assert!(decode(whole, PAGE).is_ok());
            for length in 0..whole.len() {
                let cut = decode(&whole[..length], PAGE);
                assert!(matches!(cut, Err(DecodeError::Short { .. })), "{length}: {cut:?}");
            }
        }
    }

    #[test]
    fn an_unknown_kind_is_named() {
        let mut bytes = [0u8; 64];
        bytes[0] = 99;
        assert_eq!(decode(&bytes, PAGE), Err(DecodeError::UnknownKind(99)));
    }

    #[test]
    fn absent_fields_are_none_and_pages_become_bytes() {
        let mut record = VictimRecord {
            header: header(RecordKind::Victim, flag::SIZES | flag::DECISION),
            decision: 7,
            cgroup: 42,
            anon_rss: 3,
            comm: *b"worker\0garbage!!",
            ..Default::default()
        };
        let Ok(Event::Marked(mark)) = decode(bytes_of(&record), PAGE) else { panic!() };
        assert_eq!((mark.decision, mark.killed), (Some(7), false));
        assert_eq!(mark.victim.sizes.unwrap().anon_rss, 3 * PAGE);
        assert_eq!((mark.victim.ns_pid, mark.victim.parent_cgroup), (None, None));
        assert_eq!(mark.victim.oom_score_adj, None);
        assert_eq!(mark.victim.comm, "worker");
        record.header.flags = 0;
        let Ok(Event::Marked(mark)) = decode(bytes_of(&record), PAGE) else { panic!() };
        assert_eq!((mark.decision, mark.victim.sizes), (None, None));
    }

    #[test]
    fn domain_zero_is_the_node_only_if_the_kernel_said_so() {
        let mut record =
            DecisionRecord { header: header(RecordKind::Decision, 0), ..Default::default() };
        let domain = |record: &DecisionRecord| match decode(bytes_of(record), PAGE) {
            Ok(Event::Decided(decision)) => decision.domain,
            other => panic!("{other:?}"),
        };
        assert_eq!(domain(&record), Domain::Unknown);
        record.header.flags = flag::DOMAIN;
        assert_eq!(domain(&record), Domain::Node);
        record.domain_cgroup = 5;
        assert_eq!(domain(&record), Domain::Cgroup(CgroupId(5)));
        record.header.flags |= flag::OUTSIDE;
        assert_eq!(domain(&record), Domain::Outside);
    }

    fn of_cgroup(flags: u32, above: u32) -> CgroupRecord {
        let header = header(RecordKind::CgroupMkdir, flags);
        CgroupRecord { header, cgroup: 9, above, reserved: 0 }
    }

    /// A mount that begins below the hierarchy's root shows a part of what the kernel
    /// tells of, by shorter paths.
    #[test]
    fn paths_begin_where_the_mount_does() {
        let made = |flags, above, path: &[u8]| {
            decode(&[bytes_of(&of_cgroup(flags, above)), path].concat(), PAGE)
        };
        let event = |path: &[u8], base| {
            let path = CgroupPath::parse(path).unwrap();
            Ok(Event::CgroupMade(CgroupEvent { id: Some(CgroupId(9)), path, base }))
        };
        let path = b"/docker/n1.scope/kubepods/c1\0";
        assert_eq!(made(flag::INSIDE, 2, path), event(b"/kubepods/c1", Base::Mount));
        assert_eq!(made(flag::INSIDE, 4, path), event(b"/", Base::Mount));
        assert_eq!(made(0, 0, path), event(&path[..path.len() - 1], Base::Hierarchy));
        assert_eq!(made(flag::OUTSIDE, 0, path), Ok(Event::CgroupOutside));
        assert_eq!(made(flag::INSIDE, 5, path), Err(DecodeError::Level { levels: 5 }));
        let name = [&b"/"[..], &[b'n'; 255]].concat();
        let cut = &name.repeat(5)[..PATH_LEN - 1];
        let known = [&name.repeat(3), "/…".as_bytes()].concat();
        assert_eq!(made(0, 0, cut), event(&known, Base::Hierarchy));
        assert_eq!(made(flag::INSIDE, 1, cut), event(&known[256..], Base::Mount));
        let whole = &cut[..PATH_LEN - 2];
        assert_eq!(made(0, 0, whole), event(whole, Base::Hierarchy));
        let between = [&name.repeat(3), &b"/"[..], &[b'n'; 253], b"/"].concat();
        assert!(between.len() == PATH_LEN - 1 && made(0, 0, &between).is_ok());
    }

    #[test]
    fn a_group_is_one_although_it_is_not_known_which() {
        for (number, group, cgroup) in
            [(0, false, None), (7, true, Some(CgroupId(7))), (u64::MAX, true, None)]
        {
            let header = header(RecordKind::Decision, 0);
            let record = DecisionRecord { header, group_cgroup: number, ..Default::default() };
            let Ok(Event::Decided(decision)) = decode(bytes_of(&record), PAGE) else { panic!() };
            assert_eq!((decision.group, decision.group_cgroup), (group, cgroup));
        }
    }

    #[test]
    fn a_lineage_is_as_long_as_its_record() {
        let mut record = LineageRecord {
            header: header(RecordKind::Lineage, 0),
            cgroup: 9,
            ..Default::default()
        };
        record.above[..3].copy_from_slice(&[2, 3, 4]);
        for levels in [0, 3, LEVELS] {
            let Ok(Event::Lineage(lineage)) = decode(&bytes_of(&record)[..24 + 8 * levels], PAGE)
            else {
                panic!("{levels}")
            };
            assert_eq!((lineage.cgroup, lineage.above.len()), (CgroupId(9), levels));
            assert!(lineage.above.iter().zip(2..).take(3).all(|(id, number)| id.0 == number));
        }
        assert!(matches!(decode(&bytes_of(&record)[..23], PAGE), Err(DecodeError::Short { .. })));
    }

    #[test]
    fn a_cgroup_path_ends_at_its_nul_and_must_be_plain() {
        let record = of_cgroup(0, 0);
        let with = |path: &[u8]| [bytes_of(&record), path].concat();
        let Ok(Event::CgroupMade(made)) = decode(&with(b"/a/b\0xx"), PAGE) else { panic!() };
        assert_eq!((made.id, made.path.as_str()), (Some(CgroupId(9)), "/a/b"));
        let Ok(Event::CgroupMade(odd)) = decode(&with(b"/a/\xff\0"), PAGE) else { panic!() };
        assert_eq!(odd.path.to_string(), "/a/\\xff");
        for bad in [&b""[..], b"relative\0", b"/a/../b\0"] {
            assert!(matches!(decode(&with(bad), PAGE), Err(DecodeError::Path(_))), "{bad:?}");
        }
    }
}
