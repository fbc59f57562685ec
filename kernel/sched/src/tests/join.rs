use super::{Detach, Ended, JoinWord, Outcome, Slot};
use crate::id::{GoIndex, GoRef};

fn joiner() -> GoRef {
    GoRef { index: GoIndex::new(7).expect("an index"), generation: 3 }
}

fn begun() -> JoinWord {
    let word = JoinWord::new();
    assert!(word.is_free());
    word.begin();
    assert!(!word.is_free());
    word
}

#[test]
fn a_join_before_the_end_is_woken_and_takes_the_value() {
    let word = begun();
    assert_eq!(word.outcome(), None);
    assert!(word.wait(joiner()));
    assert_eq!(word.end(Outcome::Value), Ended::Wake(joiner()));
    assert_eq!(word.outcome(), Some(Outcome::Value));
    assert_eq!(word.leave(), Slot::Kept);
    assert!(!word.is_free());
    assert_eq!(word.claim(), Slot::Free);
    assert!(word.is_free());
}

#[test]
fn a_join_after_the_end_does_not_wait() {
    let word = begun();
    assert_eq!(word.end(Outcome::Nothing), Ended::Kept);
    assert!(!word.wait(joiner()));
    assert_eq!(word.outcome(), Some(Outcome::Nothing));
    // Before the goroutine has left its stack, which then frees the slot.
    assert_eq!(word.claim(), Slot::Kept);
    assert_eq!(word.leave(), Slot::Free);
}

#[test]
fn a_handle_dropped_before_the_end_leaves_the_value_to_the_goroutine() {
    let word = begun();
    assert_eq!(word.detach(), Detach::Detached);
    assert_eq!(word.end(Outcome::Value), Ended::Detached);
    assert_eq!(word.leave(), Slot::Free);
    assert!(word.is_free());
}

#[test]
fn a_handle_dropped_after_the_end_has_the_value() {
    let word = begun();
    assert_eq!(word.end(Outcome::Value), Ended::Kept);
    assert_eq!(word.leave(), Slot::Kept);
    assert_eq!(word.detach(), Detach::Ended(Outcome::Value));
    assert_eq!(word.claim(), Slot::Free);
}

#[test]
fn a_slot_can_be_used_again() {
    let word = begun();
    assert_eq!(word.detach(), Detach::Detached);
    assert_eq!(word.end(Outcome::Nothing), Ended::Detached);
    assert_eq!(word.leave(), Slot::Free);
    word.begin();
    assert_eq!(word.outcome(), None);
    assert!(word.wait(joiner()));
}
