use super::{AtomicU32, Device, Input, Ordering};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

/// A device whose interrupts are taken by hand.
#[derive(Default)]
struct Bytes {
    waiting: RefCell<VecDeque<u8>>,
    interrupts: Cell<Option<bool>>,
}

impl Device for Bytes {
    fn receive(&self) -> Option<u8> {
        self.waiting.borrow_mut().pop_front()
    }

    fn enable_interrupts(&self) {
        self.interrupts.set(Some(true));
    }

    fn disable_interrupts(&self) {
        self.interrupts.set(Some(false));
    }
}

fn bytes(from: core::ops::Range<u8>) -> Bytes {
    Bytes { waiting: RefCell::new(from.collect()), ..Bytes::default() }
}

#[test]
fn bytes_come_out_in_their_order() {
    let (input, device) = (Input::new(8), bytes(0..5));
    assert_eq!(input.take(&device, &mut [0; 4]), 0);
    input.fill(&device);
    assert_eq!(input.len(), 5);
    let mut into = [0; 3];
    assert_eq!((input.take(&device, &mut into), into), (3, [0, 1, 2]));
    assert_eq!(input.take(&device, &mut []), 0);
    let mut into = [9; 4];
    assert_eq!((input.take(&device, &mut into), into), (2, [3, 4, 9, 9]));
    assert!(input.is_empty());
    assert_eq!(device.interrupts.get(), None, "it was never full");
}

#[test]
fn a_full_ring_stops_the_interrupts_until_there_is_room() {
    let (input, device) = (Input::new(4), bytes(0..6));
    input.fill(&device);
    assert_eq!((input.len(), device.waiting.borrow().len()), (4, 2));
    assert_eq!(device.interrupts.take(), Some(false));
    let mut into = [0; 1];
    assert_eq!(input.take(&device, &mut into), 1);
    assert_eq!(device.interrupts.take(), Some(true));
    assert_eq!(input.take(&device, &mut into), 1);
    assert_eq!(device.interrupts.take(), None, "once");
}

#[test]
fn a_device_that_goes_on_is_left_after_a_portion() {
    let (input, device) = (Input::new(256), bytes(0..100));
    input.fill(&device);
    assert_eq!((input.len(), device.interrupts.take()), (64, Some(true)), "it interrupts anew");
    input.fill(&device);
    assert_eq!((input.len(), device.interrupts.take()), (100, None));
}

#[test]
fn a_unit_is_owed_for_bytes_and_only_one() {
    let (input, device) = (Input::new(4), bytes(0..2));
    let units = AtomicU32::new(0);
    assert!(!input.owes_unit(&units));
    input.fill(&device);
    assert!(input.owes_unit(&units));
    units.store(1, Ordering::Relaxed);
    assert!(!input.owes_unit(&units));
}

#[test]
fn indices_wrap() {
    let (input, device) = (Input::new(4), Bytes::default());
    let mut came = Vec::new();
    for round in 0..100_u8 {
        device.waiting.borrow_mut().extend([round, round]);
        input.fill(&device);
        let mut into = [0; 3];
        let count = input.take(&device, &mut into);
        came.extend_from_slice(&into[..count]);
    }
    let expected: Vec<u8> = (0..100).flat_map(|round| [round, round]).collect();
    assert_eq!(came, expected);
}

#[test]
#[should_panic(expected = "indices wrap")]
fn a_capacity_that_does_not_wrap_is_refused() {
    drop(Input::new(3));
}
