//! The values of channels: dropped once, of any size, as many as there is memory for; and misuse.
#![no_std]
#![no_main]
#![expect(
    clippy::large_stack_frames,
    clippy::large_stack_arrays,
    reason = "values of many pages are what some cases are about"
)]

extern crate alloc;

use alloc::boxed::Box;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use core::hint::black_box;

use gzero::chan::{ChanError, TryRecvError, try_chan};
use gzero::{Receiver, Sender, WaitReason, chan, go, gopark, on_m, select, testing};
use tests::{Counted, Drops, Random, Verdict, equal, start_waiting, wait_until_alone};

tests::image! {
    pass: [
        what_is_received_is_dropped_by_the_receiver,
        what_nobody_receives_is_dropped_by_the_last_receiver,
        what_cannot_be_sent_comes_back,
        a_value_that_waits_is_dropped_once,
        drops_are_counted_under_load,
        a_drop_may_use_its_own_channel,
        a_drop_may_wait,
        values_without_size_are_counted,
        large_values_arrive_whole,
        a_slot_on_an_untouched_stack_is_mapped,
        a_value_that_does_not_fill_its_slot_is_mapped,
        capacities_end_where_memory_does,
        try_operations_run_on_the_kernel_stack,
    ],
    dies: [
        ("panic", "cannot make a channel of capacity 1099511627776: no memory for", a_capacity_without_memory),
        ("panic", "cannot make a channel of capacity 18446744073709551615: no memory is as large", a_capacity_without_end),
        ("throw", "Sender::send not on the G stack", a_send_inside_of_on_m),
        ("throw", "Receiver::recv not on the G stack", a_recv_inside_of_on_m),
        ("throw", "Receiver::recv not on the G stack", a_recv_from_a_closed_channel_inside_of_on_m),
        ("throw", "begin_park: the goroutine is parking", a_recv_inside_of_publish),
        ("throw", "schedule: holding locks", a_recv_with_locks_held),
        ("fatal", "waits: chan receive", a_recv_without_senders),
        ("fatal", "waits: chan send", a_send_without_receivers),
    ],
}

fn counted(count: usize, capacity: usize) -> (Drops, Sender<Counted>, Receiver<Counted>) {
    let (tx, rx) = chan(capacity);
    (Drops::new(count), tx, rx)
}

fn what_is_received_is_dropped_by_the_receiver() -> Verdict {
    for capacity in [0, 2] {
        let (drops, tx, rx) = counted(5, capacity);
        let values = drops.clone();
        go(move || (0..5).for_each(|n| tx.send(values.value(n)).expect("open")));
        let all: Vec<Counted> = rx.iter().collect();
        equal("while they are kept", &drops.counts(), &vec![0; 5])?;
        equal("in order", &all.iter().map(|value| value.number).collect::<Vec<_>>(), &vec![0, 1, 2, 3, 4])?;
        drop(all);
        equal("afterwards", &drops.counts(), &vec![1; 5])?;
    }
    Ok(())
}

fn what_nobody_receives_is_dropped_by_the_last_receiver() -> Verdict {
    let (drops, tx, rx) = counted(3, 3);
    (0..3).for_each(|n| tx.send(drops.value(n)).expect("open"));
    drop(rx.clone());
    tx.close();
    equal("a close drops nothing", &drops.counts(), &vec![0; 3])?;
    drop(rx.recv());
    equal("one was received", &drops.counts(), &vec![1, 0, 0])?;
    drop(rx);
    equal("nobody is left", &drops.counts(), &vec![1; 3])?;
    drop(tx);
    equal("at the end", &drops.counts(), &vec![1; 3])?;
    // The other way round: the senders are gone first.
    let (drops, tx, rx) = counted(2, 2);
    (0..2).for_each(|n| tx.send(drops.value(n)).expect("open"));
    drop(tx);
    equal("before", &drops.counts(), &vec![0; 2])?;
    drop(rx);
    equal("after", &drops.counts(), &vec![1; 2])
}

fn what_cannot_be_sent_comes_back() -> Verdict {
    let (drops, tx, rx) = counted(4, 1);
    tx.send(drops.value(0)).expect("open");
    let full = tx.try_send(drops.value(1)).map_err(|error| error.into_inner().number);
    equal("full", &full, &Err(1))?;
    rx.close();
    let closed = tx.send(drops.value(2)).map_err(|error| error.into_inner().number);
    equal("closed", &closed, &Err(2))?;
    let closed = tx.try_send(drops.value(3)).map_err(|error| error.into_inner().number);
    equal("closed, without waiting", &closed, &Err(3))?;
    equal("drops", &drops.counts(), &vec![0, 1, 1, 1])
}

/// A sender waits, or a select does, when the receivers go.
fn a_value_that_waits_is_dropped_once() -> Verdict {
    let (drops, tx, rx) = counted(2, 0);
    let (told, result) = chan(2);
    let (value, sender, tell) = (drops.value(0), tx.clone(), told.clone());
    start_waiting(WaitReason::ChanSend, move || {
        let back = sender.send(value);
        tell.send(back.is_err()).expect("open");
    });
    let value = drops.value(1);
    start_waiting(WaitReason::Select, move || {
        let back = select! { send(tx, value) -> sent => sent.is_err() };
        told.send(back).expect("open");
    });
    equal("while they wait", &drops.counts(), &vec![0; 2])?;
    drop(rx);
    equal("both come back", &(result.recv(), result.recv()), &(Ok(true), Ok(true)))?;
    wait_until_alone();
    equal("afterwards", &drops.counts(), &vec![1; 2])
}

/// Senders, receivers and selects that end at any moment: each value is dropped once.
fn drops_are_counted_under_load() -> Verdict {
    const SENDERS: usize = 4;
    const EACH: usize = 200;
    for round in 0..4 {
        let (drops, tx, rx) = counted(SENDERS * EACH, round);
        for sender in 0..SENDERS {
            let (tx, drops) = (tx.clone(), drops.clone());
            go(move || {
                for n in 0..EACH {
                    let value = drops.value(sender * EACH + n);
                    let sent = match n % 3 {
                        0 => tx.send(value).is_ok(),
                        1 => select! { send(tx, value) -> sent => sent.is_ok(), default => false },
                        _ => tx.try_send(value).is_ok(),
                    };
                    black_box(sent);
                }
            });
        }
        for receiver in 0..3_usize {
            let rx = rx.clone();
            go(move || receive_some(&rx, receiver as u64));
        }
        drop((tx, rx));
        wait_until_alone();
        equal("drops", &drops.counts(), &vec![1; SENDERS * EACH])?;
    }
    Ok(())
}

/// Receives until the channel is closed, or it has had enough.
fn receive_some(rx: &Receiver<Counted>, seed: u64) {
    let mut random = Random::new(seed + 1);
    for _ in 0..150 {
        drop(select! { recv(rx) -> value => value });
        if random.below(50) == 0 {
            return;
        }
    }
}

/// Uses the channel that it lies in when it is dropped.
struct Reentrant {
    channel: Sender<Self>,
    told: Sender<(bool, usize)>,
}

impl Drop for Reentrant {
    fn drop(&mut self) {
        let closed = self.channel.is_closed() && !self.channel.close();
        self.told.send((closed, self.channel.len())).expect("open");
    }
}

fn a_drop_may_use_its_own_channel() -> Verdict {
    let (tx, rx) = chan(3);
    let (told, results) = chan(3);
    for _ in 0..3 {
        let value = Reentrant { channel: tx.clone(), told: told.clone() };
        equal("a send", &tx.send(value).is_ok(), &true)?;
    }
    drop(rx);
    for left in [2, 1, 0] {
        equal("what a drop has seen", &results.recv(), &Ok((true, left)))?;
    }
    Ok(())
}

/// Waits for somebody when it is dropped.
struct Slow(Sender<u32>, u32);

impl Drop for Slow {
    fn drop(&mut self) {
        self.0.send(self.1).expect("open");
    }
}

fn a_drop_may_wait() -> Verdict {
    let (tx, rx) = chan(4);
    let (told, results) = chan(0);
    (0..4).for_each(|n| assert!(tx.send(Slow(told.clone(), n)).is_ok()));
    go(move || drop(rx));
    drop(told);
    for n in 0..4 {
        equal("a drop", &results.recv(), &Ok(n))?;
    }
    Ok(())
}

/// Go's `test/chan/zerosize.go`, and more.
fn values_without_size_are_counted() -> Verdict {
    let (tx, rx) = chan::<()>(usize::MAX >> 3);
    (0..1_000).for_each(|_| tx.send(()).expect("open"));
    equal("values", &(tx.len(), rx.try_iter().count()), &(1_000, 1_000))?;
    let (tx, rx) = chan::<[u64; 0]>(0);
    go(move || (0..100).for_each(|_| tx.send([]).expect("open")));
    equal("met", &rx.iter().count(), &100)
}

/// A pattern that shows what is missing or doubled.
fn pattern<const N: usize>(seed: usize) -> [u8; N] {
    core::array::from_fn(|n| u8::try_from((n + seed) % 251).unwrap_or(0))
}

fn large_values_arrive_whole() -> Verdict {
    const SIZE: usize = 10_000;
    for capacity in [0, 2] {
        let (tx, rx) = chan::<[u8; SIZE]>(capacity);
        go(move || (0..20).for_each(|n| assert!(tx.send(pattern(n)).is_ok(), "open")));
        for n in 0..20 {
            let value = Box::new(rx.recv());
            equal("whole", &(value.as_ref() == &Ok(pattern(n))), &true)?;
        }
        // By select, whose moves do not know the size when they are compiled.
        let (tx, rx) = chan::<[u8; SIZE]>(capacity);
        go(move || {
            for n in 0..20 {
                select! { send(tx, pattern(n)) -> sent => assert!(sent.is_ok(), "open") }
            }
        });
        for n in 0..20 {
            let whole = select! { recv(rx) -> value => value == Ok(pattern(n)) };
            equal("whole by select", &whole, &true)?;
        }
    }
    // A megabyte does not fit on a stack; it goes by its box.
    let (tx, rx) = chan::<Box<[u8]>>(1);
    go(move || tx.send(vec![7; 1 << 20].into_boxed_slice()).expect("open"));
    let value = rx.recv().unwrap_or_default();
    equal("a megabyte", &(value.len(), value.iter().all(|byte| *byte == 7)), &(1 << 20, true))?;
    let (tx, _rx) = chan::<[u8; 1 << 20]>(4);
    equal("room for four of a megabyte", &tx.capacity(), &4)
}

/// The receiver's slot spans pages that its goroutine has not touched.
fn a_slot_on_an_untouched_stack_is_mapped() -> Verdict {
    const SIZE: usize = 40_000;
    for _ in 0..4 {
        let (tx, rx) = chan::<[u8; SIZE]>(0);
        let (told, result) = chan(0);
        start_waiting(WaitReason::ChanReceive, move || {
            let whole = rx.recv().is_ok_and(|value| value.iter().all(|byte| *byte == 9));
            told.send(whole).expect("open");
        });
        equal("a send", &tx.send([9; SIZE]).is_ok(), &true)?;
        equal("whole", &result.recv(), &Ok(true))?;
    }
    Ok(())
}

/// A value of which a sender writes little, and a receiver moves all.
#[expect(clippy::large_enum_variant, reason = "that is what the case is about")]
enum Mostly {
    Nothing(u8),
    Much([u8; 20_000]),
}

/// The sender's slot spans pages that its goroutine has not touched.
fn a_value_that_does_not_fill_its_slot_is_mapped() -> Verdict {
    for capacity in [0, 1] {
        for by_select in [false, true] {
            let (tx, rx) = chan(capacity);
            if capacity == 1 {
                equal("a send", &tx.send(Mostly::Much([3; 20_000])).is_ok(), &true)?;
            }
            let reason = if by_select { WaitReason::Select } else { WaitReason::ChanSend };
            start_waiting(reason, move || {
                let sent = if by_select {
                    select! { send(tx, Mostly::Nothing(5)) -> sent => sent.is_ok() }
                } else {
                    tx.send(Mostly::Nothing(5)).is_ok()
                };
                assert!(sent, "open");
            });
            if capacity == 1 {
                let much =
                    rx.recv().is_ok_and(|value| matches!(value, Mostly::Much(bytes) if bytes == [3; 20_000]));
                equal("much", &much, &true)?;
            }
            equal("little", &rx.recv().is_ok_and(|value| matches!(value, Mostly::Nothing(5))), &true)?;
        }
    }
    Ok(())
}

fn capacities_end_where_memory_does() -> Verdict {
    let Err(error) = try_chan::<u64>(1 << 40) else { return Err("8 TiB were found".into()) };
    let named =
        format!("{error}").starts_with("cannot make a channel of capacity 1099511627776: no memory for ");
    equal("a capacity of 2^40", &named, &true)?;
    for capacity in [usize::MAX, usize::MAX >> 3, usize::MAX >> 4] {
        let too_large = ChanError::TooLarge { capacity, element: 8 };
        equal("without end", &try_chan::<u64>(capacity).map(|_| ()), &Err(too_large))?;
    }
    let too_large = ChanError::TooLarge { capacity: usize::MAX, element: 0 };
    equal("of no size", &try_chan::<()>(usize::MAX).map(|_| ()), &Err(too_large))?;
    let (tx, rx) = chan::<u64>(100_000);
    (0..100_000).for_each(|n| tx.send(n).expect("open"));
    equal("a large one", &rx.try_iter().eq(0..100_000), &true)
}

fn try_operations_run_on_the_kernel_stack() -> Verdict {
    let (tx, rx) = chan(1);
    let (told, result) = chan(1);
    let waiting = rx.clone();
    start_waiting(WaitReason::ChanReceive, move || told.send(waiting.recv()).expect("open"));
    let done = on_m(|| (tx.try_send(1), tx.try_send(2), rx.try_recv(), rx.try_recv()));
    equal("there", &done, &(Ok(()), Ok(()), Ok(2), Err(TryRecvError::Empty)))?;
    equal("the waiter", &result.recv(), &Ok(Ok(1)))
}

fn a_capacity_without_memory() {
    drop(chan::<u64>(1 << 40));
}

fn a_capacity_without_end() {
    drop(chan::<u64>(usize::MAX));
}

fn a_send_inside_of_on_m() {
    let (tx, _rx) = chan(1);
    assert!(on_m(|| tx.send(1)).is_ok());
}

fn a_recv_inside_of_on_m() {
    let (tx, rx) = chan(1);
    assert!(tx.send(1).is_ok());
    assert!(on_m(|| rx.recv()).is_ok());
}

fn a_recv_from_a_closed_channel_inside_of_on_m() {
    let (_, rx) = chan::<u32>(1);
    assert!(on_m(|| rx.recv()).is_ok());
}

fn a_recv_inside_of_publish() {
    let (_tx, rx) = chan::<u32>(0);
    gopark(WaitReason::Park, |_| rx.recv().is_ok());
}

fn a_recv_with_locks_held() {
    let (_tx, rx) = chan::<u32>(0);
    assert!(testing::while_pinned(|| rx.recv()).is_ok());
}

fn a_recv_without_senders() {
    let (_tx, rx) = chan::<u32>(0);
    assert!(rx.recv().is_ok());
}

fn a_send_without_receivers() {
    let (tx, _rx) = chan(0);
    assert!(tx.send(1).is_ok());
}
