//! A value that something rewrites in a loop.

use super::{pace::PAUSE, *};

/// Writes the other value, and returns whether it is corrected at once.
fn is_corrected(fake: &mut Fake) -> bool {
    fake.write("/c", "1");
    fake.enforcer.changed();
    fake.value("/c") == "0"
}

#[test]
fn it_is_corrected_after_a_pause_and_costs_nothing_meanwhile() {
    let mut fake = Fake::new("loop", |_| {});
    fake.make("/c", "1");
    fake.govern("/c", false);
    let corrected = (0..5000).take_while(|_| is_corrected(&mut fake)).count();
    assert!((3999..=4000).contains(&corrected), "{corrected}");
    // The end of the watch is notified too.
    fake.enforcer.changed();
    fake.write("/c", "1");
    assert!(!fake.is_notified(), "it is not watched");
    fake.clock.advance(PAUSE - Duration::from_nanos(1));
    fake.enforcer.correct_due();
    assert_eq!(fake.value("/c"), "1");
    fake.clock.advance(Duration::from_nanos(1));
    assert_eq!(fake.enforcer.due(), Some(fake.clock.now()));
    fake.enforcer.correct_due();
    assert_eq!((fake.value("/c").as_str(), fake.enforcer.due()), ("0", None));
    assert!(is_corrected(&mut fake), "one more for each pause");
    assert!(!is_corrected(&mut fake));
    fake.clock.advance(PAUSE * 10);
    fake.enforcer.correct_due();
    let corrected = (0..100).take_while(|_| is_corrected(&mut fake)).count();
    assert_eq!(corrected, 10);
}
