use super::*;
use share::{MOST_REMOVED, OTHERS};

fn path(text: &str) -> CgroupPath {
    CgroupPath::parse(text.as_bytes()).unwrap()
}

fn made(tree: &mut CgroupTree, id: u64, text: &str, now: u64) -> bool {
    tree.made(CgroupId(id), path(text), Role::Other, Monotonic(now))
}

/// A walk of these, and its result.
fn walk(
    tree: &mut CgroupTree,
    found: &[(u64, &str)],
    unread: Option<&str>,
    times: (u64, u64),
) -> (Vec<u64>, Vec<CgroupId>) {
    tree.begin_walk();
    let mut new = Vec::new();
    for (id, text) in found {
        let is_new = match tree.found(CgroupId(*id), Monotonic(times.0)) {
            Found::Known(_) => false,
            Found::Back(_) => true,
            Found::Unknown => {
                tree.listed(CgroupId(*id), path(text), Role::Other, Monotonic(times.0))
            }
        };
        new.extend(is_new.then_some(*id));
    }
    let mut unknown = Unknown::default();
    unread.into_iter().for_each(|text| unknown.add(path(text)));
    (new, tree.end_walk(&unknown, (Monotonic(times.0), Monotonic(times.1))))
}

#[test]
fn a_removed_cgroup_keeps_its_name_for_a_while() {
    let mut tree = CgroupTree::default();
    assert!(made(&mut tree, 5, "/a", 1));
    assert!(!made(&mut tree, 5, "/a", 2), "an event that repeats the walk");
    assert!(tree.removed(CgroupId(5), Monotonic(10)));
    assert!(!tree.removed(CgroupId(5), Monotonic(11)));
    assert_eq!(tree.living().count(), 0);
    tree.forget(Monotonic(9) + KEEP_REMOVED);
    assert_eq!(tree.path(CgroupId(5)), Some(&path("/a")));
    tree.forget(Monotonic(10) + KEEP_REMOVED);
    assert_eq!(tree.path(CgroupId(5)), None);
}

#[test]
fn churn_is_bounded() {
    let mut tree = CgroupTree::default();
    for id in 0..10_000 {
        made(&mut tree, id, &format!("/{id}"), 1);
        tree.removed(CgroupId(id), Monotonic(1));
    }
    assert_eq!(tree.known.len(), MOST_REMOVED);
    assert!(tree.path(CgroupId(9_999)).is_some() && tree.path(CgroupId(0)).is_none());
}

#[test]
fn a_walk_finds_what_events_missed() {
    let mut tree = CgroupTree::default();
    made(&mut tree, 1, "/stays", 1);
    made(&mut tree, 2, "/goes", 1);
    made(&mut tree, 4, "/made-during-the-walk", 6);
    made(&mut tree, 5, "/removed-during-the-walk", 1);
    tree.removed(CgroupId(5), Monotonic(6));
    let found = [(1, "/stays"), (3, "/comes"), (5, "/removed-during-the-walk")];
    assert_eq!(walk(&mut tree, &found, None, (5, 7)), (vec![3], vec![CgroupId(2)]));
    let mut living: Vec<_> = tree.living().map(|(id, _)| id.0).collect();
    living.sort_unstable();
    assert_eq!(living, [1, 3, 4]);
}

/// Without a free descriptor a walk passes over whole subtrees, and a user may make an own one
/// unreadable.
#[test]
fn a_walk_removes_nothing_where_it_could_not_read() {
    let mut tree = CgroupTree::default();
    for (id, text) in [(1, "/unread"), (2, "/unread/below"), (3, "/unreadable"), (4, "/read")] {
        made(&mut tree, id, text, 1);
    }
    assert_eq!(walk(&mut tree, &[], Some("/"), (5, 7)), (vec![], vec![]));
    assert_eq!(tree.living().count(), 4);
    let (_, mut gone) = walk(&mut tree, &[(1, "/unread")], Some("/unread"), (8, 9));
    gone.sort_unstable();
    assert_eq!(gone, [CgroupId(3), CgroupId(4)], "the rest is known");
    let (_, gone) = walk(&mut tree, &[(1, "/unread")], None, (10, 11));
    assert_eq!(gone, [CgroupId(2)], "it can be read again");
}

#[test]
fn what_a_walk_finds_again_was_never_gone() {
    let mut tree = CgroupTree::default();
    made(&mut tree, 1, "/a", 1);
    tree.removed(CgroupId(1), Monotonic(2));
    assert_eq!(walk(&mut tree, &[(1, "/a")], None, (5, 7)), (vec![1], vec![]));
    tree.forget(Monotonic(2) + KEEP_REMOVED);
    assert_eq!(tree.living().count(), 1);
    assert!(tree.removed(CgroupId(1), Monotonic(8)), "and can go now");
}

/// Of each kind so many are kept, in number and in bytes, and the other kind has its own.
#[test]
fn what_is_kept_has_a_bound_for_each_kind() {
    for name in ["x".to_owned(), "x".repeat(250)] {
        let mut tree = CgroupTree::default();
        for id in 0..20_000 {
            made(&mut tree, id, &format!("/{name}/{id}"), 1);
        }
        let kept = tree.living().count();
        let bytes: usize = tree.living().map(|(_, path)| path.as_str().len()).sum();
        assert!(kept <= OTHERS.cgroups && bytes <= OTHERS.bytes, "{kept} of {bytes} bytes");
        assert_eq!(tree.not_kept(Role::Other), 20_000 - kept as u64);
        assert!(tree.made(CgroupId(50_000), path("/web"), Role::Container, Monotonic(1)));
        assert_eq!(tree.not_kept(Role::Container), 0);
        // Room comes back with what is removed, although that can be named for a while.
        tree.removed(CgroupId(0), Monotonic(2));
        assert!(made(&mut tree, 20_001, &format!("/{name}/0"), 3));
    }
}

#[test]
fn what_is_not_kept_is_counted_anew_by_each_walk() {
    let mut tree = CgroupTree::default();
    let names: Vec<_> = (0..10_000).map(|id| (id, format!("/{id}"))).collect();
    let found: Vec<_> = names.iter().map(|(id, name)| (*id, name.as_str())).collect();
    walk(&mut tree, &found, None, (1, 2));
    assert_eq!(tree.not_kept(Role::Other), 10_000 - OTHERS.cgroups as u64);
    made(&mut tree, 10_001, "/gone-again", 3);
    tree.removed(CgroupId(10_001), Monotonic(3));
    made(&mut tree, 10_000, "/more", 3);
    assert_eq!(tree.not_kept(Role::Other), 10_001 - OTHERS.cgroups as u64);
    walk(&mut tree, &found[..9_000], None, (4, 5));
    assert_eq!(tree.not_kept(Role::Other), 9_000 - OTHERS.cgroups as u64);
    walk(&mut tree, &found[..10], None, (6, 7));
    assert_eq!(tree.not_kept(Role::Other), 0);
}

#[test]
fn a_kill_below_is_of_the_nearest_that_is_kept() {
    let mut tree = CgroupTree::default();
    made(&mut tree, 2, "/pod", 1);
    made(&mut tree, 3, "/pod/c1", 1);
    let ids = |ids: &[u64]| ids.iter().copied().map(CgroupId).collect::<Vec<_>>();
    tree.lies_below(CgroupId(9), &ids(&[2, 3, 7, 8]));
    for id in [3, 7, 8, 9] {
        assert_eq!(tree.nearest(CgroupId(id)), Some((CgroupId(3), &path("/pod/c1"))), "{id}");
    }
    assert_eq!(tree.path(CgroupId(9)), None);
    tree.lies_below(CgroupId(11), &ids(&[10]));
    assert_eq!(tree.nearest(CgroupId(11)), None, "nothing above is known");
    // Removed before the record is read.
    tree.removed(CgroupId(3), Monotonic(2));
    assert_eq!(tree.nearest(CgroupId(9)).map(|(id, _)| id), Some(CgroupId(3)));
    for id in 100..100_000 {
        tree.lies_below(CgroupId(id), &ids(&[2]));
    }
    assert_eq!(tree.nearest(CgroupId(9)), None);
    assert!(tree.nearest(CgroupId(99_999)).is_some());
}

#[test]
fn other_rules_sort_anew() {
    let mut tree = CgroupTree::default();
    made(&mut tree, 1, "/a", 1);
    made(&mut tree, 2, "/b", 1);
    tree.sort(|path| if path.name() == "a" { Role::Container } else { Role::Other });
    assert_eq!(tree.found(CgroupId(1), Monotonic(2)), Found::Known(Role::Container));
    assert_eq!(tree.found(CgroupId(2), Monotonic(2)), Found::Known(Role::Other));
    tree.sort(|_| Role::Other);
    assert_eq!(tree.found(CgroupId(1), Monotonic(3)), Found::Known(Role::Other));
}

/// What a walk finds may be as old as the machine.
#[test]
fn only_what_an_event_announced_lately_is_new() {
    let mut tree = CgroupTree::default();
    made(&mut tree, 1, "/a", 7);
    walk(&mut tree, &[(1, "/a"), (2, "/b")], None, (8, 9));
    let later = Monotonic(7) + NEW_FOR;
    let is_new = |id, now| tree.is_new(CgroupId(id), now);
    assert!(is_new(1, Monotonic(9)) && !is_new(1, later));
    assert!(!is_new(2, Monotonic(9)) && !is_new(3, Monotonic(9)));
}
