//! Selects: one arm is chosen, at one instant, and only its value moves.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicUsize, Ordering};

use gzero::chan::RecvError;
use gzero::{Receiver, Sender, WaitReason, chan, go, gosched, select, testing};
use tests::{Drops, Verdict, equal, start_waiting, wait_until_alone};

tests::image! {
    pass: [
        a_select_takes_what_is_ready,
        a_default_is_for_when_nothing_is_ready,
        an_absent_channel_is_never_chosen,
        a_select_sees_one_instant,
        a_select_sees_a_close_at_one_instant,
        nobody_receives_from_itself,
        a_select_is_fair,
        sends_of_a_select_are_random,
        a_channel_may_be_there_twice,
        who_was_chosen_elsewhere_leaves_the_queue,
        four_channels_under_stress,
        two_selects_split_what_comes,
        a_value_moves_only_if_its_arm_is_chosen,
        a_value_comes_back_from_a_closed_channel,
        everything_is_evaluated_once_and_in_order,
        bodies_belong_to_the_caller,
        bodies_may_change_what_the_arms_name,
        temporary_channels_live_as_long_as_the_select,
        values_of_any_type_go_through_a_select,
        requests_carry_their_answers_channel,
    ],
}

fn a_select_takes_what_is_ready() -> Verdict {
    let (numbers_in, numbers) = chan(0);
    let (words_in, words) = chan(0);
    go(move || {
        for n in 0..100_u32 {
            numbers_in.send(n).expect("the receiver is there");
        }
    });
    go(move || {
        for _ in 0..100 {
            words_in.send("word").expect("the receiver is there");
        }
    });
    let (mut next, mut seen) = (0, 0);
    let mut numbers = Some(numbers);
    let mut words = Some(words);
    while numbers.is_some() || words.is_some() {
        select! {
            recv(numbers) -> n => match n {
                Ok(n) => {
                    equal("a number", &n, &next)?;
                    next += 1;
                }
                Err(_) => numbers = None,
            },
            recv(words) -> word => {
                if word.is_ok() { seen += 1 } else { words = None }
            }
        }
    }
    equal("numbers and words", &(next, seen), &(100, 100))
}

fn a_default_is_for_when_nothing_is_ready() -> Verdict {
    let (tx, rx) = chan(1);
    let look = || select! { recv(rx) -> v => v.unwrap_or(0), default => 99 };
    equal("empty", &look(), &99)?;
    tx.send(1).expect("open");
    equal("a value", &look(), &1)?;
    let put = |n| select! { default => false, send(tx, n) -> sent => sent.is_ok() };
    equal("room, then none", &(put(2), put(3)), &(true, false))?;
    equal("only the default", &select! { default => 7 }, &7)?;
    tx.close();
    equal("what is left, then closed", &(look(), look(), put(4)), &(2, 0, false))
}

fn an_absent_channel_is_never_chosen() -> Verdict {
    let (tx, rx) = chan(2);
    let nobody: Option<Receiver<u32>> = None;
    let nowhere: Option<&Sender<u32>> = None;
    for n in 0..100_u32 {
        select! {
            recv(nobody) => return Err("received from nobody".into()),
            send(nowhere, n) -> _sent => return Err("sent nowhere".into()),
            send(Some(&tx), n) -> sent => sent.expect("open"),
        }
        let value = select! {
            recv(nobody) -> v => v,
            recv(&Some(&rx)) -> v => v,
            send(nowhere, n) -> _sent => return Err("sent nowhere".into()),
        };
        equal("a value", &value, &Ok(n))?;
    }
    // It waits, too, with nobody in the absent ones.
    let other = tx.clone();
    go(move || other.send(5).expect("open"));
    let value = select! { recv(nobody) -> v => v, recv(rx) -> v => v };
    equal("after a wait", &value, &Ok(5))
}

/// Go's `TestNonblockSelectRace`: one of the two channels is ready at each instant.
fn a_select_sees_one_instant() -> Verdict {
    let (told, results) = chan(1);
    for _ in 0..1_000 {
        let ((tx1, rx1), (tx2, rx2)) = (chan(1), chan(1));
        tx1.send(1).expect("open");
        let (mine, told, _kept) = (rx1.clone(), told.clone(), rx2.clone());
        go(move || {
            let found = select! {
                recv(rx1) -> v => v.is_ok(),
                recv(rx2) -> v => v.is_ok(),
                default => false,
            };
            told.send(found).expect("open");
        });
        tx2.send(1).expect("open");
        select! { recv(mine) => {}, default => {} }
        equal("one was ready", &results.recv(), &Ok(true))?;
    }
    Ok(())
}

/// Go's `TestNonblockSelectRace2`.
fn a_select_sees_a_close_at_one_instant() -> Verdict {
    let (told, results) = chan(1);
    for _ in 0..1_000 {
        let ((tx1, rx1), (tx2, rx2)) = (chan(1), chan::<u32>(0));
        tx1.send(1).expect("open");
        let (mine, told) = (rx1.clone(), told.clone());
        go(move || {
            let found = select! { recv(rx1) => true, recv(rx2) => true, default => false };
            told.send(found).expect("open");
        });
        tx2.close();
        select! { recv(mine) => {}, default => {} }
        equal("one was ready", &results.recv(), &Ok(true))?;
    }
    Ok(())
}

/// One arm sends and the other receives, on the same channel; which of them comes first changes. What was received, if
/// anything was.
fn send_or_receive(me: u32, n: u32, tx: &Sender<u32>, rx: &Receiver<u32>) -> Option<u32> {
    if me == 0 || n.is_multiple_of(2) {
        select! { send(tx, me) -> sent => sent.map(|()| 9).ok(), recv(rx) -> v => v.ok() }
    } else {
        select! { recv(rx) -> v => v.ok(), send(tx, me) -> sent => sent.map(|()| 9).ok() }
    }
}

/// Go's `TestSelfSelect`. With room the own value may come back.
fn nobody_receives_from_itself() -> Verdict {
    for capacity in [0, 10] {
        let (tx, rx) = chan(capacity);
        let itself = Arc::new(AtomicUsize::new(0));
        let (told, results) = chan(2);
        for me in 0..2 {
            let (tx, rx, itself, told) = (tx.clone(), rx.clone(), Arc::clone(&itself), told.clone());
            go(move || {
                let own = (0..1_000).filter(|n| send_or_receive(me, *n, &tx, &rx) == Some(me)).count();
                itself.fetch_add(if capacity == 0 { own } else { 0 }, Ordering::Relaxed);
                told.send(()).expect("open");
            });
        }
        // One may be left without a partner when the other is done: a third one is ready for both.
        let mut done = 0;
        while done < 2 {
            select! {
                recv(results) => done += 1,
                recv(rx) -> v => equal("nobody closes", &v.is_ok(), &true)?,
                send(tx, 7) -> sent => equal("nobody closes", &sent.is_ok(), &true)?,
            }
        }
        equal("received from itself", &itself.load(Ordering::Relaxed), &0)?;
    }
    wait_until_alone();
    Ok(())
}

/// Go's `TestSelectFairness`.
fn a_select_is_fair() -> Verdict {
    const TRIALS: usize = 2_000;
    let full = |value: usize| {
        let (tx, rx) = chan(TRIALS + 1);
        (0..=TRIALS).for_each(|_| tx.send(value).expect("open"));
        (tx, rx)
    };
    let ((_tx1, rx1), (_tx2, rx2)) = (full(0), full(1));
    let ((_tx3, rx3), (_tx4, rx4)) = (chan::<usize>(0), chan::<usize>(0));
    let ((out, results), (_done, ended)) = (chan(0), chan::<()>(0));
    go(move || {
        loop {
            let value = select! {
                recv(rx3) -> v => v,
                recv(rx4) -> v => v,
                recv(rx1) -> v => v,
                recv(rx2) -> v => v,
            };
            select! {
                send(out, value) -> sent => if sent.is_err() { return },
                recv(ended) => return,
            }
        }
    });
    let mut counts = [0_usize; 2];
    for _ in 0..TRIALS {
        counts[results.recv().expect("a value").expect("open")] += 1;
    }
    // Ten times the standard deviation, which is half the root of the trials.
    let far = counts[0].abs_diff(TRIALS / 2) > 10 * 23;
    equal("far from half", &far, &false)
}

/// Go's `TestPseudoRandomSend`.
fn sends_of_a_select_are_random() -> Verdict {
    const COUNT: usize = 100;
    for capacity in [0, COUNT] {
        let (tx, rx) = chan(capacity);
        let (told, result) = chan(0);
        go(move || {
            let mut all = Vec::new();
            for _ in 0..COUNT {
                gosched();
                all.extend(rx.recv());
            }
            told.send(all).expect("open");
        });
        for _ in 0..COUNT {
            select! { send(tx, 1_usize) -> sent => sent, send(tx, 0) -> sent => sent }.expect("open");
        }
        let ones: usize = result.recv().expect("all").iter().sum();
        equal("both were chosen", &(ones > COUNT / 10 && ones < COUNT - COUNT / 10), &true)?;
    }
    Ok(())
}

/// A channel that stands in several arms is locked once, and left in all of them.
fn a_channel_may_be_there_twice() -> Verdict {
    let (tx, rx) = chan(0);
    let (other, input) = chan(1);
    for round in 0..200_u32 {
        let mine = (rx.clone(), input.clone());
        let g = start_waiting(WaitReason::Select, move || {
            let v = select! {
                recv(mine.0) -> v => v, recv(mine.0) -> v => v, recv(mine.1) -> v => v, recv(mine.0) -> v => v,
            };
            assert_eq!(v, Ok(round), "the value");
        });
        if round % 2 == 0 { tx.send(round) } else { other.send(round) }.expect("open");
        equal("it is gone", &tx.try_send(77).is_err(), &true)?;
        while testing::waits_for(g).is_some() {
            gosched();
        }
    }
    wait_until_alone();
    Ok(())
}

/// Go's `TestSelectDuplicateChannel`.
fn who_was_chosen_elsewhere_leaves_the_queue() -> Verdict {
    for _ in 0..100 {
        let ((ctx, crx), (dtx, drx), (etx, erx)) = (chan::<u32>(0), chan::<u32>(0), chan::<u32>(0));
        let mine = crx.clone();
        start_waiting(WaitReason::Select, move || {
            select! { recv(mine) => {}, recv(mine) => {}, recv(drx) => {} }
            etx.send(9).expect("open");
        });
        let (told, result) = chan(1);
        start_waiting(WaitReason::ChanReceive, move || told.send(crx.recv()).expect("open"));
        dtx.send(7).expect("open");
        equal("the select is over", &erx.recv(), &Ok(9))?;
        ctx.send(8).expect("open");
        equal("the other one got it", &result.recv(), &Ok(Ok(8)))?;
    }
    wait_until_alone();
    Ok(())
}

/// Go's `TestSelectStress`: each channel has senders and receivers of its own, and two selects that send and receive on all
/// of them until each has had its number.
fn four_channels_under_stress() {
    const EACH: u32 = 300;
    let channels: Vec<_> = [0, 0, 2, 3].map(chan::<u32>).into();
    for (tx, rx) in &channels {
        let (tx, rx) = (tx.clone(), rx.clone());
        go(move || (0..EACH).for_each(|n| tx.send(n).expect("open")));
        go(move || (0..EACH).for_each(|_| assert!(rx.recv().is_ok(), "open")));
    }
    let all = channels.clone();
    go(move || {
        let mut txs: Vec<_> = all.iter().map(|(tx, _)| Some(tx)).collect();
        let mut counts = [0; 4];
        while txs.iter().any(Option::is_some) {
            let at = select! {
                send(txs[3], 0) -> sent => sent.map(|()| 3),
                send(txs[2], 0) -> sent => sent.map(|()| 2),
                send(txs[0], 0) -> sent => sent.map(|()| 0),
                send(txs[1], 0) -> sent => sent.map(|()| 1),
            };
            let at = at.expect("open");
            counts[at] += 1;
            if counts[at] == EACH {
                txs[at] = None;
            }
        }
    });
    let all = channels;
    go(move || {
        let mut rxs: Vec<_> = all.iter().map(|(_, rx)| Some(rx)).collect();
        let mut counts = [0; 4];
        while rxs.iter().any(Option::is_some) {
            let at = select! {
                recv(rxs[0]) => 0,
                recv(rxs[1]) => 1,
                recv(rxs[2]) => 2,
                recv(rxs[3]) => 3,
            };
            counts[at] += 1;
            if counts[at] == EACH {
                rxs[at] = None;
            }
        }
    });
    wait_until_alone();
}

fn two_selects_split_what_comes() -> Verdict {
    let ((tx1, rx1), (tx2, rx2)) = (chan(0), chan(0));
    let (told, results) = chan(2);
    for _ in 0..2 {
        let (rx1, rx2, told) = (rx1.clone(), rx2.clone(), told.clone());
        go(move || {
            let (mut rx1, mut rx2, mut sum) = (Some(rx1), Some(rx2), 0_u32);
            while rx1.is_some() || rx2.is_some() {
                select! {
                    recv(rx1) -> v => if let Ok(v) = v { sum += v } else { rx1 = None },
                    recv(rx2) -> v => if let Ok(v) = v { sum += v } else { rx2 = None },
                }
            }
            told.send(sum).expect("open");
        });
    }
    go(move || (0..500).for_each(|_| tx1.send(1).expect("open")));
    go(move || (0..500).for_each(|_| tx2.send(1_000).expect("open")));
    let sum = results.recv().expect("one") + results.recv().expect("the other");
    equal("the sum", &sum, &500_500)
}

fn a_value_moves_only_if_its_arm_is_chosen() -> Verdict {
    let drops = Drops::new(4);
    let ((tx, rx), (full, kept)) = (chan(1), chan(0));
    let nowhere = None::<Sender<_>>;
    let before = select! {
        send(full, drops.value(0)) -> _sent => vec![],
        send(nowhere, drops.value(1)) -> _sent => vec![],
        send(tx, drops.value(2)) -> sent => { sent.expect("open"); drops.counts() }
    };
    equal("in the body", &before, &vec![1, 1, 0, 0])?;
    drop(rx);
    equal("received by nobody", &drops.counts(), &vec![1, 1, 1, 0])?;
    drop(kept);
    let back = select! { send(full, drops.value(3)) -> sent => sent.map_err(|error| error.0.number) };
    equal("closed", &back, &Err(3))?;
    equal("at the end", &drops.counts(), &vec![1; 4])
}

fn a_value_comes_back_from_a_closed_channel() -> Verdict {
    let ((tx, rx), (_idle, never)) = (chan(0), chan::<u32>(0));
    let (told, result) = chan(1);
    start_waiting(WaitReason::Select, move || {
        let back = select! {
            send(tx, Box::new(5)) -> sent => sent.map_err(|error| *error.into_inner()),
            recv(never) -> v => v.map(|_| ()).map_err(|_| 0),
        };
        told.send(back).expect("open");
    });
    drop(rx);
    equal("the value", &result.recv(), &Ok(Err(5)))
}

/// Go's `test/chan/select.go` and `select5.go`.
fn everything_is_evaluated_once_and_in_order() -> Verdict {
    let (tx, rx) = chan(0);
    let mut order = Vec::new();
    let mut note = |n| {
        order.push(n);
        n
    };
    let chosen = select! {
        send({ note(1); Some(&tx) }, note(2)) -> _sent => 0,
        recv({ note(3); Some(&rx) }) -> _v => 1,
        send({ note(4); None::<&Sender<i32>> }, note(5)) -> _sent => 2,
        default => note(6),
    };
    equal("the arm", &chosen, &6)?;
    equal("the order", &order, &vec![1, 2, 3, 4, 5, 6])
}

fn first_even(rx: &Receiver<u32>) -> Result<u32, RecvError> {
    loop {
        select! {
            recv(rx) -> n => {
                let n = n?;
                if n == 100 {
                    break;
                }
                if n % 2 == 1 {
                    continue;
                }
                return Ok(n);
            }
        }
    }
    Ok(0)
}

fn bodies_belong_to_the_caller() -> Verdict {
    let (tx, rx) = chan(10);
    for n in [1, 3, 4, 5, 100] {
        tx.send(n).expect("open");
    }
    equal("return", &first_even(&rx), &Ok(4))?;
    equal("break", &first_even(&rx), &Ok(0))?;
    tx.close();
    equal("?", &first_even(&rx), &Err(RecvError))
}

fn bodies_may_change_what_the_arms_name() -> Verdict {
    let (tx, rx) = chan(1);
    tx.send(String::from("text")).expect("open");
    let (value, text) = select! {
        recv(rx) -> v => { drop(rx); (v, String::new()) }
    };
    equal("a value", &value.as_deref(), &Ok("text"))?;
    let back = select! { send(tx, text) -> sent => { drop(tx); sent.is_err() } };
    equal("nobody is there", &back, &true)
}

fn temporary_channels_live_as_long_as_the_select() -> Verdict {
    let ready = || {
        let (tx, rx) = chan(1);
        tx.send(3).expect("open");
        rx
    };
    let value = select! { recv(ready()) -> v => v, recv(chan::<u32>(0).1) -> v => v.map(|_| 3).or(Ok(3)) };
    equal("a value", &value, &Ok(3))
}

/// Go's `TestChanSendInterface`.
fn values_of_any_type_go_through_a_select() -> Verdict {
    let (tx, rx) = chan::<Box<dyn Any + Send>>(1);
    tx.send(Box::new("text")).expect("open");
    select! { send(tx, Box::new(1_u8)) -> _sent => return Err("there is no room".into()), default => {} }
    select! {
        send(tx, Box::new(2_u8)) -> _sent => return Err("there is no room".into()),
        send(tx, Box::new([3_u64; 4])) -> _sent => return Err("there is no room".into()),
        default => {}
    }
    let text = rx.recv().ok().and_then(|value| value.downcast::<&str>().ok());
    equal("the value", &text.as_deref(), &Some(&"text"))
}

/// The traffic of Go's `TestChanSendSelectBarrier` and `TestChanSendBarrier`: what is on its way while others allocate.
fn requests_carry_their_answers_channel() -> Verdict {
    let (requests, todo) = chan::<(u32, Sender<Box<u32>>)>(0);
    for by_select in [true, false] {
        let todo = todo.clone();
        go(move || {
            for (n, answer) in todo {
                let value = Box::new(n + 1);
                let sent = if by_select {
                    select! { send(answer, value) -> sent => sent }
                } else {
                    answer.send(value)
                };
                assert!(sent.is_ok(), "somebody waits for the answer");
            }
        });
    }
    for n in 0..500 {
        let (answer, result) = chan(usize::from(n % 2 == 0));
        requests.send((n, answer)).expect("open");
        equal("the answer", &result.recv(), &Ok(Box::new(n + 1)))?;
    }
    Ok(())
}
