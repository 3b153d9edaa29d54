use super::*;
use bytemuck::bytes_of;

const PAGE: u64 = 4096;

fn header(kind: RecordKind, flags: u32) -> Header {
    Header { kind: kind as u32, flags, time: 1_000 }
}

#[test]
fn every_cut_of_every_record_is_an_error_or_an_event() {
    let victim = VictimRecord { header: header(RecordKind::Victim, 0), ..Default::default() };
    let decision = DecisionRecord { header: header(RecordKind::Decision, 0), ..Default::default() };
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

/// What the kernel counts in pages is bytes on every machine; a count that cannot be is cut.
#[test]
fn sizes_are_right_for_each_size_of_pages() {
    let header = header(RecordKind::Victim, flag::SIZES);
    let record = VictimRecord {
        header,
        total_vm: 7,
        anon_rss: 3,
        file_rss: 2,
        shmem_rss: 1,
        ..Default::default()
    };
    for page in herder_agent_ebpf::rings::PAGES.map(u64::from) {
        let Ok(Event::Marked(mark)) = decode(bytes_of(&record), page) else { panic!() };
        let sizes = mark.victim.sizes.unwrap();
        let all = [sizes.total_vm, sizes.anon_rss, sizes.file_rss, sizes.shmem_rss];
        assert_eq!(all, [7, 3, 2, 1].map(|pages| pages * page), "pages of {page}");
        let large = VictimRecord { anon_rss: u64::MAX / 2, ..record };
        let Ok(Event::Marked(mark)) = decode(bytes_of(&large), page) else { panic!() };
        assert_eq!(mark.victim.sizes.unwrap().anon_rss, u64::MAX, "pages of {page}");
    }
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

/// A mount that begins below the hierarchy's root shows only a part of the cgroups that the kernel
/// reports, and by shorter paths.
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
    let mut record =
        LineageRecord { header: header(RecordKind::Lineage, 0), cgroup: 9, ..Default::default() };
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
fn levels_are_as_many_as_their_record_has() {
    let mut record = LevelsRecord {
        header: header(RecordKind::Levels, flag::WHOLE),
        trigger_tid: 7,
        ..Default::default()
    };
    record.levels[..2].copy_from_slice(&[
        Level { cgroup: 9, oom: 3, group: 1 },
        Level { cgroup: 1, oom: 0, group: 0 },
    ]);
    let decoded =
        |record: &LevelsRecord, levels| decode(&bytes_of(record)[..24 + 16 * levels], PAGE);
    for levels in [0, 2, LEVELS] {
        let Ok(Event::Levels(read)) = decoded(&record, levels) else { panic!("{levels}") };
        assert_eq!((read.trigger, read.upwards.len(), read.is_whole), (7, levels, true));
        let known = [(9, 3, true), (1, 0, false)];
        for (level, (id, oom, group)) in read.upwards.iter().zip(known) {
            assert_eq!((level.cgroup, level.oom, level.group), (CgroupId(id), oom, group));
        }
    }
    record.header.flags = 0;
    assert!(matches!(decoded(&record, 2), Ok(Event::Levels(Levels { is_whole: false, .. }))));
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
