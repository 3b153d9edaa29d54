use super::*;

/// Times count from the beginning of the story.
const BEGIN: Duration = Duration::ZERO;
const MS: Duration = Duration::from_millis(1);
const CONTAINER: CgroupId = CgroupId(3);

fn after(since: Duration) -> Monotonic {
    Monotonic::ZERO + since
}

fn path(text: &str) -> CgroupPath {
    CgroupPath::parse(text.as_bytes()).unwrap()
}

fn counts(oom: u64, oom_kill: u64, oom_group_kill: Option<u64>) -> Counts {
    Counts { oom, oom_kill, oom_group_kill }
}

/// A deducer that knows the container `/pod/c` and reads it, or what is around it.
#[derive(Default)]
struct Story(CountAssembler);

impl Story {
    fn read(&mut self, id: u64, at: &str, counts: Counts, oom_group: bool, now: Duration) {
        let (path, container) = (path(at), path("/pod/c"));
        let is_inside = path.is_within(&container);
        let container = if is_inside { &container } else { &path };
        let container_id = Some(if is_inside { CONTAINER } else { CgroupId(id) });
        let oom_group = oom_group.then_some((CgroupId(id), &path));
        self.0.read(
            Place { id: CgroupId(id), path: &path, container, container_id, oom_group },
            counts,
            after(now),
        );
    }

    /// The container's own counts.
    fn container(&mut self, counts: Counts, now: Duration) {
        self.read(CONTAINER.0, "/pod/c", counts, false, now);
    }

    fn settle(&mut self, now: Duration, ended: bool) -> Vec<OomKill> {
        self.0.settle(after(now), |_, _| ended)
    }
}

fn reported(kills: &[OomKill]) -> Vec<(usize, bool, bool)> {
    let parts = |kill: &OomKill| (kill.victims.len(), kill.group.unwrap(), kill.ended.unwrap());
    kills.iter().map(parts).collect()
}

#[test]
fn the_file_is_read_as_each_kernel_writes_it() {
    let new = "low 0\nhigh 0\nmax 9\noom 2\noom_kill 3\noom_group_kill 1\nsock_throttled 0\n";
    assert_eq!(Counts::parse(new), Some(counts(2, 3, Some(1))));
    assert_eq!(Counts::parse("oom 2\noom_kill 3\n"), Some(counts(2, 3, None)), "5.10");
    for bad in ["", "oom 1\n", "oom_kill\n", "oom_kill x\n", "oom_kill -1\n"] {
        assert_eq!(Counts::parse(bad), None, "{bad:?}");
    }
}

#[test]
fn a_sub_process_is_reported_when_its_container_lives_on() {
    let mut story = Story::default();
    story.0.begin(CONTAINER, counts(5, 5, Some(0)));
    story.container(counts(6, 6, Some(0)), BEGIN);
    assert_eq!(story.0.deadline(), Some(after(GATHER)));
    assert_eq!(story.settle(GATHER, false), [], "it may yet end");
    assert_eq!(story.0.deadline(), Some(after(2 * GATHER)), "looked at again, not at once");
    let kills = story.settle(FATE, false);
    assert_eq!(reported(&kills), [(1, false, false)]);
    assert_eq!(kills[0].domain, Domain::Cgroup(CONTAINER));
    assert_eq!(kills[0].victims[0].cgroup, CONTAINER);
    assert_eq!((story.0.deadline(), story.settle(FATE, false)), (None, vec![]));
}

#[test]
fn an_init_is_reported_when_its_container_has_ended() {
    let mut story = Story::default();
    story.container(counts(1, 1, Some(0)), BEGIN);
    assert_eq!(
        story.settle(GATHER - Duration::from_nanos(1), true),
        [],
        "another count may be on its way"
    );
    assert_eq!(reported(&story.settle(GATHER, true)), [(1, false, true)]);
}

#[test]
fn of_several_the_last_ends_the_container() {
    let mut story = Story::default();
    story.container(counts(1, 1, Some(0)), BEGIN);
    story.container(counts(3, 3, Some(0)), 50 * MS);
    let kills = story.settle(GATHER, true);
    assert_eq!(reported(&kills), [(1, false, false), (1, false, false), (1, false, true)]);
}

/// It was alive before the agent was about to end it. That says nothing about a kill since.
#[test]
fn what_a_container_has_survived_says_nothing_about_a_later_kill() {
    let mut story = Story::default();
    story.container(counts(1, 1, Some(0)), BEGIN);
    story.0.survived(CONTAINER);
    story.container(counts(2, 2, Some(0)), 50 * MS);
    assert_eq!(reported(&story.settle(GATHER, true)), [(1, false, false)]);
    assert_eq!(reported(&story.settle(50 * MS + GATHER, true)), [(1, false, true)]);
}

/// The kernel counts the chosen victim twice (facts of 6.1: a group of two says 3).
#[test]
fn a_group_is_one_kill_wherever_its_processes_are() {
    let mut story = Story::default();
    story.read(7, "/pod/c/sub", counts(0, 1, Some(0)), false, BEGIN);
    story.container(counts(1, 2, Some(1)), 10 * MS);
    let kills = story.settle(GATHER, false);
    assert_eq!(reported(&kills), [(2, true, true)], "its processes may take a while to die");
    assert_eq!(kills[0].group_cgroup, Some(CONTAINER));
    let mut alone = Story::default();
    alone.container(counts(1, 1, Some(1)), BEGIN);
    assert_eq!(reported(&alone.settle(GATHER, true)), [(1, true, true)]);
}

/// A workload that may make cgroups has made one that is killed as a group.
#[test]
fn a_group_inside_ends_the_container_only_if_its_init_is_in_it() {
    for (ended, due) in [(true, GATHER), (false, FATE)] {
        let mut story = Story::default();
        story.read(7, "/pod/c/job", counts(1, 4, Some(1)), false, BEGIN);
        story.container(counts(0, 0, Some(0)), 10 * MS);
        let early = story.settle(due - Duration::from_nanos(1), ended);
        assert_eq!(early, [], "it may yet end");
        let kills = story.settle(due, ended);
        assert_eq!(reported(&kills), [(3, true, ended)]);
        assert_eq!(kills[0].group_cgroup, Some(CgroupId(7)));
        let mut old = Story::default();
        old.read(7, "/pod/c/job", counts(1, 4, None), true, BEGIN);
        assert_eq!(reported(&old.settle(FATE, ended)), [(3, true, ended)], "5.10 has no count");
    }
}

#[test]
fn a_group_above_is_one_kill_for_each_container() {
    let mut story = Story::default();
    story.read(2, "/pod", counts(1, 0, Some(1)), false, BEGIN);
    story.container(counts(0, 3, Some(0)), BEGIN);
    let kills = story.settle(GATHER, true);
    assert_eq!(reported(&kills), [(2, true, true)]);
    assert_eq!(kills[0].domain, Domain::Cgroup(CgroupId(2)), "the pod's limit");
}

#[test]
fn where_groups_are_not_counted_the_file_says_it() {
    let mut story = Story::default();
    story.read(CONTAINER.0, "/pod/c", counts(1, 3, None), true, BEGIN);
    assert_eq!(reported(&story.settle(GATHER, true)), [(2, true, true)]);
    story.read(CONTAINER.0, "/pod/c", counts(2, 4, Some(0)), true, 9 * FATE);
    let kills = story.settle(10 * FATE, false);
    assert_eq!(reported(&kills), [(1, false, false)], "the count says more than the file");
}

#[test]
fn the_nearest_limit_counts_and_none_is_the_node() {
    let mut story = Story::default();
    story.read(2, "/pod", counts(1, 0, Some(0)), false, BEGIN);
    story.read(9, "/other", counts(1, 0, Some(0)), false, BEGIN);
    story.container(counts(1, 1, Some(0)), BEGIN);
    assert_eq!(story.settle(FATE, false)[0].domain, Domain::Cgroup(CONTAINER));
    story.container(counts(1, 2, Some(0)), FATE + EXPLAINS);
    let later = story.settle(2 * FATE + EXPLAINS, false);
    assert_eq!(later[0].domain, Domain::Node, "what was over its limit long ago is none");
}

#[test]
fn a_new_cgroup_of_a_removed_id_begins_anew() {
    let mut story = Story::default();
    story.container(counts(1, 1, Some(0)), BEGIN);
    story.settle(FATE, false);
    story.0.removed(CONTAINER);
    story.container(counts(1, 1, Some(0)), FATE);
    assert_eq!(story.settle(2 * FATE, false).len(), 1);
}

#[test]
fn a_number_in_a_file_does_not_fill_the_memory() {
    let mut story = Story::default();
    story.container(counts(1, u64::MAX, Some(0)), BEGIN);
    assert_eq!(u64::try_from(story.settle(FATE, false).len()), Ok(MOST));
}
