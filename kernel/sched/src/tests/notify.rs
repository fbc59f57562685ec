//! Who gets a notification, by ticket.

use super::{Came, Tickets};
use crate::sudog::tests::store;
use crate::waiters::Waiters;
use crate::waiters::tests::members;

#[test]
fn tickets_are_notified_in_their_order() {
    let (sudogs, s) = store(3);
    let (tickets, mut waiters) = (Tickets::new(), Waiters::new());
    assert!(tickets.all_notified());
    let drawn = [tickets.draw(), tickets.draw(), tickets.draw()];
    assert!(!tickets.all_notified());
    // They come in another order.
    for n in [1, 0, 2] {
        assert_eq!(tickets.come(&mut waiters, &sudogs, s[n], drawn[n]), Came::InTime);
    }
    for s in &s[..3] {
        assert_eq!(tickets.notify_one(&mut waiters, &sudogs), Some(*s));
    }
    assert_eq!(tickets.notify_one(&mut waiters, &sudogs), None);
    assert!(tickets.all_notified());
}

#[test]
fn a_notification_before_the_goroutine_comes_is_kept() {
    let (sudogs, s) = store(2);
    let (tickets, mut waiters) = (Tickets::new(), Waiters::new());
    let (one, two) = (tickets.draw(), tickets.draw());
    assert_eq!(tickets.notify_one(&mut waiters, &sudogs), None, "it has not come yet");
    assert_eq!(tickets.come(&mut waiters, &sudogs, s[1], two), Came::InTime);
    assert_eq!(tickets.come(&mut waiters, &sudogs, s[0], one), Came::Notified);
    assert_eq!(tickets.notify_one(&mut waiters, &sudogs), Some(s[1]));
}

#[test]
fn all_get_a_broadcast_and_who_draws_later_does_not() {
    let (sudogs, s) = store(3);
    let (tickets, mut waiters) = (Tickets::new(), Waiters::new());
    let (one, late) = (tickets.draw(), tickets.draw());
    assert_eq!(tickets.come(&mut waiters, &sudogs, s[0], one), Came::InTime);
    let all = tickets.notify_all(&mut waiters);
    assert_eq!(members(&sudogs, all), [s[0]]);
    assert_eq!(tickets.come(&mut waiters, &sudogs, s[1], late), Came::Notified);
    let next = tickets.draw();
    assert_eq!(tickets.come(&mut waiters, &sudogs, s[2], next), Came::InTime);
}

#[test]
fn tickets_wrap_around() {
    let (sudogs, s) = store(1);
    let (tickets, mut waiters) = (Tickets::new(), Waiters::new());
    tickets.drawn.store(u32::MAX, super::Ordering::Relaxed);
    tickets.notified.store(u32::MAX, super::Ordering::Relaxed);
    let (last, first) = (tickets.draw(), tickets.draw());
    assert_eq!(tickets.notify_one(&mut waiters, &sudogs), None);
    assert_eq!(tickets.come(&mut waiters, &sudogs, s[0], last), Came::Notified);
    assert_eq!(tickets.come(&mut waiters, &sudogs, s[0], first), Came::InTime);
    assert_eq!(tickets.notify_one(&mut waiters, &sudogs), Some(s[0]));
}
