use super::Latch;
use crate::id::{GoIndex, GoRef};

fn owner() -> GoRef {
    GoRef { index: GoIndex::new(2).expect("an index"), generation: 9 }
}

#[test]
fn the_last_one_wakes_an_owner_that_waits() {
    let latch = Latch::new(owner());
    latch.begin();
    latch.begin();
    assert!(!latch.is_done());
    assert_eq!(latch.end(), None);
    assert!(latch.wait());
    // One that is counted may count another.
    latch.begin();
    assert_eq!(latch.end(), None);
    assert!(!latch.is_done());
    assert_eq!(latch.end(), Some(owner()));
    assert!(latch.is_done());
}

#[test]
fn nobody_wakes_an_owner_that_does_not_wait() {
    let latch = Latch::new(owner());
    assert!(latch.is_done());
    latch.begin();
    assert_eq!(latch.end(), None);
    assert!(latch.is_done());
    assert!(!latch.wait());
}
