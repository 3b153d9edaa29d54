use super::*;

/// systemd removes a scope some milliseconds after a kill in it, which may be read later.
#[test]
fn what_stood_in_the_way_is_known_after_the_removal() {
    let mut fake = Fake::new("removed-obstacle", |_| {});
    fake.make("/pod", "1");
    let ids: Vec<_> = (0..=MOST_REMOVED)
        .map(|number| {
            let path = format!("/pod/{number}");
            fake.make(&path, "1");
            fake.govern(&path, false)
        })
        .collect();
    fake.make("/free", "1");
    let free = fake.govern("/free", false);
    fake.survey();
    for id in ids.iter().chain([&free]) {
        fake.enforcer.removed(*id);
    }
    assert_eq!(fake.enforcer.obstacle(free), None);
    assert_eq!(fake.enforcer.obstacle(ids[0]), None, "there were too many since");
    for id in &ids[1..] {
        assert_eq!(fake.enforcer.obstacle(*id), Some(Obstacle::Ancestor));
    }
}
