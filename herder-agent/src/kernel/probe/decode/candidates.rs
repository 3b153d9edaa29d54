//! The record of what a decision chose between. Only as much of it is there as there are
//! candidates.

use super::{comm, read};
use bytemuck::pod_read_unaligned;
use herder_agent_ebpf::{
    candidates::{Candidate as Raw, CandidatesRecord, LARGEST},
    flag,
};
use herder_model::{
    cgroup::CgroupId,
    oom::candidates::{Candidate, Candidates, Footprint, Usage},
};
use std::{cmp::Reverse, mem::offset_of};

/// The fields before the candidates.
const HEAD: usize = offset_of!(CandidatesRecord, candidates);

/// None if it is shorter than it says.
pub(super) fn decode(bytes: &[u8], page: u64) -> Option<Candidates> {
    let head = bytes.get(..HEAD)?;
    // The same in a whole record, whose candidates are filled in below.
    let mut whole = [0; size_of::<CandidatesRecord>()];
    whole.get_mut(..HEAD)?.copy_from_slice(head);
    let record: CandidatesRecord = read(&whole, 0).ok()?;
    let kept = usize::try_from(record.kept).ok()?.min(LARGEST);
    let (each, _) = bytes.get(HEAD..)?.as_chunks::<{ size_of::<Raw>() }>();
    let mut largest: Vec<_> =
        each.get(..kept)?.iter().map(|bytes| candidate(pod_read_unaligned(bytes), page)).collect();
    largest.sort_by_key(|candidate| Reverse(candidate.size()));
    let has = |bit: u32| record.header.flags & bit != 0;
    let usage = |usage: u64, limit: u64| Usage {
        usage: usage.saturating_mul(page),
        // `PAGE_COUNTER_MAX` is no limit (include/linux/page_counter.h, 64 bits).
        limit: (limit < i64::MAX.unsigned_abs() / page.max(1)).then(|| limit.saturating_mul(page)),
    };
    Some(Candidates {
        decision: record.decision,
        memory: has(flag::USAGE).then(|| usage(record.usage, record.limit)),
        swap: has(flag::SWAP).then(|| usage(record.swap_usage, record.swap_limit)),
        seen: has(flag::WALK).then_some(record.seen),
        largest,
    })
}

fn candidate(raw: Raw, page: u64) -> Candidate {
    let has = |bit: u32| raw.flags & bit != 0;
    let bytes = |pages: u64| pages.saturating_mul(page);
    Candidate {
        tgid: raw.tgid,
        comm: comm(&raw.comm),
        oom_score_adj: has(flag::SCORE).then_some(raw.oom_score_adj),
        cgroup: (raw.cgroup != 0).then_some(CgroupId(raw.cgroup)),
        footprint: has(flag::SIZES).then_some(Footprint {
            anon_rss: bytes(raw.anon_rss),
            file_rss: bytes(raw.file_rss),
            shmem_rss: bytes(raw.shmem_rss),
            swap: bytes(raw.swap),
            page_tables: raw.page_tables,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::probe::decode::{DecodeError, decode as event};
    use bytemuck::bytes_of;
    use herder_agent_ebpf::{Header, RecordKind};
    use herder_model::oom::event::Event;

    const PAGE: u64 = 4096;

    fn record(kept: u32) -> Vec<u8> {
        let mut record = CandidatesRecord {
            header: Header {
                kind: RecordKind::Candidates as u32,
                flags: flag::USAGE | flag::SWAP | flag::WALK,
                time: 1,
            },
            decision: 5,
            usage: 25_600,
            limit: 25_600,
            swap_usage: 0,
            swap_limit: i64::MAX.unsigned_abs() / PAGE,
            seen: 40,
            kept,
            ..CandidatesRecord::default()
        };
        for (number, candidate) in (1..).zip(&mut record.candidates) {
            *candidate = Raw {
                cgroup: 9,
                anon_rss: u64::from(number),
                page_tables: 8192,
                tgid: number,
                oom_score_adj: -5,
                flags: flag::SIZES | flag::SCORE,
                comm: *b"worker\0garbage!!",
                ..Raw::default()
            };
        }
        let length = HEAD + usize::try_from(kept).unwrap().min(LARGEST) * size_of::<Raw>();
        bytes_of(&record)[..length].to_vec()
    }

    #[test]
    fn the_largest_comes_first_and_pages_become_bytes() {
        let Ok(Event::Candidates(found)) = event(&record(3), PAGE) else { panic!() };
        assert_eq!(found.memory, Some(Usage { usage: 100 << 20, limit: Some(100 << 20) }));
        assert_eq!(found.swap, Some(Usage { usage: 0, limit: None }), "no limit");
        assert_eq!((found.decision, found.seen), (5, Some(40)));
        assert_eq!(found.largest.iter().map(|it| it.tgid).collect::<Vec<_>>(), [3, 2, 1]);
        let largest = &found.largest[0];
        assert_eq!((largest.comm.as_str(), largest.oom_score_adj), ("worker", Some(-5)));
        assert_eq!(largest.size(), 3 * PAGE + 8192);
    }

    #[test]
    fn what_is_not_filled_is_none() {
        let mut bytes = record(1);
        bytes[4..8].copy_from_slice(&0u32.to_ne_bytes());
        let flags = HEAD + offset_of!(Raw, flags);
        bytes[flags..flags + 4].copy_from_slice(&0u32.to_ne_bytes());
        let Ok(Event::Candidates(found)) = event(&bytes, PAGE) else { panic!() };
        assert_eq!((found.memory, found.swap, found.seen), (None, None, None));
        assert_eq!((found.largest[0].footprint, found.largest[0].oom_score_adj), (None, None));
    }

    #[test]
    fn every_cut_is_an_error_and_too_many_are_no_more_than_there_are() {
        let whole = record(2);
        for length in 16..whole.len() {
            let cut = event(&whole[..length], PAGE);
            assert!(matches!(cut, Err(DecodeError::Short { .. })), "{length}");
        }
        let Ok(Event::Candidates(found)) = event(&record(99), PAGE) else { panic!() };
        assert_eq!(found.largest.len(), LARGEST);
    }
}
