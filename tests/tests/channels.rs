//! Channels: values arrive once, in order, and nobody waits for ever.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use gzero::chan::{RecvError, TryRecvError, TrySendError};
use gzero::{Nanos, WaitReason, chan, go, gomaxprocs, gosched, testing};
use tests::{Verdict, equal, start, start_waiting, wait_until_alone, wait_until_waiting};

tests::image! {
    pass: [
        an_empty_channel_makes_receivers_wait,
        a_full_channel_makes_senders_wait,
        a_closed_channel_gives_what_it_holds,
        a_close_ends_all_waits,
        values_come_in_order,
        what_many_send_many_receive,
        length_and_capacity_are_seen,
        who_waits_first_is_served_first,
        a_try_recv_meets_a_close,
        a_try_send_needs_room_or_a_receiver,
        many_workers_share_two_channels,
        the_last_sender_closes,
        the_last_receiver_closes,
        a_drop_races_with_waiters,
        iterators_end_with_the_channel,
        a_send_shows_what_came_before,
        a_chain_of_goroutines_passes_a_value,
        a_fifo_of_goroutines_keeps_its_order,
        a_sieve_finds_primes,
        many_wait_in_one_channel,
        who_is_woken_can_run_when_the_waker_gives_way,
    ],
}

/// The capacities that most cases run with.
const CAPACITIES: [usize; 4] = [0, 1, 3, 20];

/// Go's `TestChan`, first part.
fn an_empty_channel_makes_receivers_wait() -> Verdict {
    for capacity in CAPACITIES {
        let (tx, rx) = chan(capacity);
        let receivers = [0, 1].map(|_| {
            let rx = rx.clone();
            start_waiting(WaitReason::ChanReceive, move || {
                rx.recv().expect("a value");
            })
        });
        equal("without waiting", &rx.try_recv(), &Err(TryRecvError::Empty))?;
        let waits = receivers.map(testing::waits_for);
        equal("who waits", &waits, &[Some(WaitReason::ChanReceive); 2])?;
        tx.send(0).expect("open");
        tx.send(0).expect("open");
        wait_until_alone();
        equal("left", &tx.len(), &0)?;
    }
    Ok(())
}

/// Go's `TestChan`, second part.
fn a_full_channel_makes_senders_wait() -> Verdict {
    for capacity in CAPACITIES {
        let (tx, rx) = chan(capacity);
        for n in 0..capacity {
            tx.send(n).expect("open");
        }
        let other = tx.clone();
        let sender = start_waiting(WaitReason::ChanSend, move || other.send(99).expect("open"));
        equal("without waiting", &tx.try_send(77), &Err(TrySendError::Full(77)))?;
        equal("who waits", &testing::waits_for(sender), &Some(WaitReason::ChanSend))?;
        let all: Vec<usize> = (0..=capacity).filter_map(|_| rx.recv().ok()).collect();
        let expected: Vec<usize> = (0..capacity).chain([99]).collect();
        equal("values", &all, &expected)?;
        wait_until_alone();
    }
    Ok(())
}

/// Go's `TestChan`, third part.
fn a_closed_channel_gives_what_it_holds() -> Verdict {
    for capacity in CAPACITIES {
        let (tx, rx) = chan(capacity);
        (0..capacity).for_each(|n| tx.send(n).expect("open"));
        equal("the first close", &tx.close(), &true)?;
        equal("the second close", &rx.close(), &false)?;
        equal("a send", &tx.send(1).is_err(), &true)?;
        equal("a try_send", &tx.try_send(2), &Err(TrySendError::Closed(2)))?;
        for n in 0..capacity {
            equal("a value", &rx.recv(), &Ok(n))?;
        }
        equal("behind the last", &rx.recv(), &Err(RecvError))?;
        equal("without waiting", &rx.try_recv(), &Err(TryRecvError::Closed))?;
    }
    Ok(())
}

/// Go's `TestChan`, fourth part, for both sides.
fn a_close_ends_all_waits() -> Verdict {
    for capacity in CAPACITIES {
        let (tx, rx) = chan::<usize>(capacity);
        let (told, results) = chan(0);
        for _ in 0..3 {
            let (rx, told) = (rx.clone(), told.clone());
            start_waiting(WaitReason::ChanReceive, move || {
                told.send(rx.recv().is_err()).expect("open");
            });
        }
        tx.close();
        for _ in 0..3 {
            equal("a receiver got an error", &results.recv(), &Ok(true))?;
        }
        let (tx, rx) = chan(capacity);
        (0..capacity).for_each(|n| tx.send(n).expect("open"));
        for n in 100..103 {
            let (tx, told) = (tx.clone(), told.clone());
            start_waiting(WaitReason::ChanSend, move || {
                let back = tx.send(n).map_err(chan::SendError::into_inner);
                told.send(back == Err(n)).expect("open");
            });
        }
        rx.close();
        for _ in 0..3 {
            equal("a sender got its value back", &results.recv(), &Ok(true))?;
        }
        equal("what the channel held", &rx.iter().count(), &capacity)?;
        wait_until_alone();
    }
    Ok(())
}

/// Go's `TestChan`, fifth part.
fn values_come_in_order() -> Verdict {
    for capacity in CAPACITIES {
        let (tx, rx) = chan(capacity);
        go(move || (0..1_000_u32).for_each(|n| tx.send(n).expect("open")));
        for n in 0..1_000 {
            equal("a value", &rx.recv(), &Ok(n))?;
        }
        equal("after the last", &rx.recv(), &Err(RecvError))?;
    }
    Ok(())
}

/// Go's `TestChan`, sixth part.
fn what_many_send_many_receive() -> Verdict {
    const EACH: usize = 500;
    for capacity in CAPACITIES {
        let (tx, rx) = chan(capacity);
        let (told, results) = chan(0);
        for _ in 0..4 {
            let (tx, rx, told) = (tx.clone(), rx.clone(), told.clone());
            go(move || (0..EACH).for_each(|n| tx.send(n).expect("open")));
            go(move || {
                let mut seen = vec![0; EACH];
                for _ in 0..EACH {
                    seen[rx.recv().expect("a value")] += 1;
                }
                told.send(seen).expect("open");
            });
        }
        let mut sum = vec![0; EACH];
        for _ in 0..4 {
            let seen = results.recv().expect("a receiver");
            sum.iter_mut().zip(seen).for_each(|(sum, seen)| *sum += seen);
        }
        equal("each value four times", &sum, &vec![4; EACH])?;
        wait_until_alone();
    }
    Ok(())
}

/// Go's `TestChan`, last part.
fn length_and_capacity_are_seen() -> Verdict {
    for capacity in CAPACITIES {
        let (tx, rx) = chan(capacity);
        equal("new", &(tx.len(), rx.is_empty(), tx.capacity()), &(0, true, capacity))?;
        (0..capacity).for_each(|n| tx.send(n).expect("open"));
        equal("full", &(rx.len(), tx.is_empty(), rx.capacity()), &(capacity, capacity == 0, capacity))?;
        equal("closed", &(tx.is_closed(), rx.close(), tx.is_closed()), &(false, true, true))?;
        equal("still there", &rx.len(), &capacity)?;
        let (other, _) = chan(capacity);
        let same = (tx.same_channel(&tx.clone()), tx.same_channel(&other), rx.same_channel(&rx.clone()));
        equal("which is which", &same, &(true, false, true))?;
    }
    Ok(())
}

fn who_waits_first_is_served_first() -> Verdict {
    let (tx, rx) = chan::<u32>(0);
    let (told, results) = chan(10);
    for n in 0..10_u32 {
        let (rx, told) = (rx.clone(), told.clone());
        start_waiting(WaitReason::ChanReceive, move || {
            let value = rx.recv().expect("a value");
            told.send((n, value)).expect("open");
        });
    }
    (0..10).for_each(|n| tx.send(n).expect("open"));
    for _ in 0..10 {
        let (who, value) = results.recv().expect("a receiver");
        equal("who got the value", &who, &value)?;
    }
    for n in 0..10 {
        let tx = tx.clone();
        start_waiting(WaitReason::ChanSend, move || tx.send(n).expect("open"));
    }
    for n in 0..10 {
        equal("whose value", &rx.recv(), &Ok(n))?;
    }
    wait_until_alone();
    Ok(())
}

/// Go's `TestNonblockRecvRace`.
fn a_try_recv_meets_a_close() -> Verdict {
    for _ in 0..500 {
        let (tx, rx) = chan(1);
        tx.send(1).expect("open");
        let (told, result) = chan(1);
        let other = rx.clone();
        go(move || told.send(other.try_recv()).expect("open"));
        tx.close();
        let (mine, others) = (rx.recv(), result.recv().expect("it has tried"));
        equal("it found nothing", &(others == Err(TryRecvError::Empty)), &false)?;
        equal("one of us got it", &(mine.is_ok() != others.is_ok()), &true)?;
    }
    Ok(())
}

fn a_try_send_needs_room_or_a_receiver() -> Verdict {
    let (tx, rx) = chan(0);
    equal("nobody waits", &tx.try_send(1), &Err(TrySendError::Full(1)))?;
    let (told, result) = chan(1);
    start_waiting(WaitReason::ChanReceive, move || told.send(rx.recv()).expect("open"));
    equal("somebody waits", &tx.try_send(2), &Ok(()))?;
    equal("what it got", &result.recv(), &Ok(Ok(2)))?;
    wait_until_alone();
    equal("nobody is left", &tx.try_send(3), &Err(TrySendError::Closed(3)))
}

/// Go's `TestMultiConsumer`.
fn many_workers_share_two_channels() -> Verdict {
    const WORKERS: usize = 23;
    const PRIMES: [u64; 10] = [2, 3, 7, 11, 13, 17, 19, 23, 29, 31];
    let (work, todo) = chan::<u64>(WORKERS * 3);
    let (done, results) = chan(WORKERS * 3);
    for worker in 0..WORKERS {
        let (todo, done) = (todo.clone(), done.clone());
        go(move || {
            for value in &todo {
                if PRIMES[worker % PRIMES.len()] == value {
                    gosched();
                }
                done.send(value).expect("open");
            }
        });
    }
    drop((todo, done));
    let expected = Arc::new(AtomicU64::new(0));
    let sent = Arc::clone(&expected);
    go(move || {
        for n in 0..8_000 {
            let value = PRIMES[n % PRIMES.len()];
            sent.fetch_add(value, Ordering::Relaxed);
            work.send(value).expect("open");
        }
    });
    let (count, sum) = results.iter().fold((0, 0), |(count, sum), value| (count + 1, sum + value));
    equal("results", &(count, sum), &(8_000, expected.load(Ordering::Relaxed)))
}

fn the_last_sender_closes() -> Verdict {
    let (tx, rx) = chan::<u32>(2);
    let second = tx.clone();
    let waiting = rx.clone();
    let (told, result) = chan(1);
    let g = start_waiting(WaitReason::ChanReceive, move || told.send(waiting.recv()).expect("open"));
    drop(tx);
    equal("one is left", &(rx.is_closed(), testing::waits_for(g).is_some()), &(false, true))?;
    drop(second);
    equal("the waiter", &result.recv(), &Ok(Err(RecvError)))?;
    equal("closed", &rx.is_closed(), &true)
}

fn the_last_receiver_closes() -> Verdict {
    let (tx, rx) = chan(1);
    tx.send(1).expect("open");
    let waiting = tx.clone();
    let (told, result) = chan(1);
    start_waiting(WaitReason::ChanSend, move || told.send(waiting.send(2)).expect("open"));
    drop(rx.clone());
    equal("one is left", &tx.is_closed(), &false)?;
    drop(rx);
    equal("the waiter", &result.recv().map(|sent| sent.is_err()), &Ok(true))?;
    equal("closed and empty", &(tx.is_closed(), tx.len()), &(true, 0))
}

/// The last handle goes while the other side waits, or is about to.
fn a_drop_races_with_waiters() -> Verdict {
    let (told, results) = chan(2);
    for round in 0..300 {
        let (tx, rx) = chan::<u32>(round % 2);
        let (receiver, sender) = (told.clone(), told.clone());
        go(move || receiver.send(rx.recv()).expect("open"));
        go(move || drop(tx));
        equal("a receiver", &results.recv(), &Ok(Err(RecvError)))?;
        let (tx, rx) = chan::<u32>(0);
        go(move || {
            let back = tx.send(1).map(|()| 0).map_err(|_| RecvError);
            sender.send(back).expect("open");
        });
        go(move || drop(rx));
        equal("a sender", &results.recv(), &Ok(Err(RecvError)))?;
    }
    wait_until_alone();
    Ok(())
}

fn iterators_end_with_the_channel() -> Verdict {
    let (tx, rx) = chan(10);
    (0..4).for_each(|n| tx.send(n).expect("open"));
    let now: Vec<u32> = rx.try_iter().collect();
    equal("what is there", &now, &vec![0, 1, 2, 3])?;
    go(move || (4..20).for_each(|n| tx.send(n).expect("open")));
    let mut next = 4;
    for n in &rx {
        equal("a value", &n, &next)?;
        next += 1;
        if next == 10 {
            break;
        }
    }
    let rest: Vec<u32> = rx.into_iter().collect();
    equal("the rest", &rest, &(10..20).collect::<Vec<u32>>())
}

/// What was written before a send, without any order, is seen after the receive.
fn a_send_shows_what_came_before() -> Verdict {
    for capacity in [0, 1] {
        let word = Arc::new(AtomicU64::new(0));
        let (tx, rx) = chan(capacity);
        let (back, go_on) = chan(0);
        let written = Arc::clone(&word);
        go(move || {
            for n in 1..=500 {
                written.store(n, Ordering::Relaxed);
                tx.send(n).expect("open");
                go_on.recv().expect("the receiver has looked");
            }
        });
        for n in 1..=500 {
            equal("a value", &rx.recv(), &Ok(n))?;
            equal("the word", &word.load(Ordering::Relaxed), &n)?;
            back.send(()).expect("open");
        }
    }
    wait_until_alone();
    Ok(())
}

/// Go's `test/chan/goroutines.go`.
fn a_chain_of_goroutines_passes_a_value() -> Verdict {
    let (first, mut end) = chan(0);
    for _ in 0..1_000 {
        let (next, out) = chan(0);
        let input = core::mem::replace(&mut end, out);
        go(move || next.send(input.recv().expect("a value") + 1).expect("open"));
    }
    first.send(0).expect("open");
    equal("hops", &end.recv(), &Ok(1_000))?;
    wait_until_alone();
    Ok(())
}

/// Go's `test/chan/fifo.go`: each goroutine takes the next value, and lets the one behind it have its turn.
fn a_fifo_of_goroutines_keeps_its_order() -> Verdict {
    let (values, input) = chan(0);
    let (begin, mut turn) = chan::<()>(0);
    let (told, order) = chan(20);
    for n in 0..20_u32 {
        let (pass, next) = chan(0);
        let mine = core::mem::replace(&mut turn, next);
        let (input, told) = (input.clone(), told.clone());
        go(move || {
            mine.recv().expect("my turn");
            told.send((n, input.recv().expect("a value"))).expect("open");
            pass.send(()).expect("the next one waits");
        });
    }
    go(move || (0..20).for_each(|n| values.send(n).expect("open")));
    begin.send(()).expect("the first one waits");
    turn.recv().expect("the last one is done");
    wait_until_alone();
    let all: Vec<(u32, u32)> = order.try_iter().collect();
    equal("who got what", &all, &(0..20).map(|n| (n, n)).collect())
}

/// Go's `test/chan/sieve1.go`.
fn a_sieve_finds_primes() -> Verdict {
    let (numbers, mut input) = chan(0);
    start(move || {
        let mut n = 2;
        while numbers.send(n).is_ok() {
            n += 1;
        }
    });
    let mut primes = Vec::new();
    while primes.len() < 25 {
        let prime: u32 = input.recv().expect("a prime");
        primes.push(prime);
        let (next, out) = chan(0);
        let from = core::mem::replace(&mut input, out);
        go(move || {
            for n in from {
                if n % prime != 0 && next.send(n).is_err() {
                    return;
                }
            }
        });
    }
    equal("the last ones", &primes.split_off(20), &vec![73, 79, 83, 89, 97])?;
    // Its end runs up the chain.
    drop(input);
    wait_until_alone();
    Ok(())
}

fn many_wait_in_one_channel() -> Verdict {
    let (tx, rx) = chan::<u32>(0);
    let (told, results) = chan(0);
    let mut last = None;
    for _ in 0..1_000 {
        let (rx, told) = (rx.clone(), told.clone());
        last = Some(start(move || told.send(rx.recv()).expect("open")));
    }
    if let Some(last) = last {
        wait_until_waiting(last, WaitReason::ChanReceive);
    }
    (0..500).for_each(|n| tx.send(n).expect("open"));
    tx.close();
    let (mut values, mut closed) = (Vec::new(), 0);
    for _ in 0..1_000 {
        match results.recv() {
            Ok(Ok(value)) => values.push(value),
            _ => closed += 1,
        }
    }
    values.sort_unstable();
    equal("values", &values, &(0..500).collect::<Vec<u32>>())?;
    equal("receivers without one", &closed, &500)?;
    wait_until_alone();
    Ok(())
}

/// Whoever wakes somebody, and must give way when the channel's lock goes, has readied it by then. (There is one CPU.)
fn who_is_woken_can_run_when_the_waker_gives_way() -> Verdict {
    let before = gomaxprocs(1);
    testing::set_slice(Nanos::from_millis(1));
    let mut lost = Vec::new();
    for how in ["send", "receive", "close"].into_iter().cycle().take(30) {
        let (tx, rx) = chan::<()>(0);
        let (to, from) = (tx.clone(), rx.clone());
        let waits = if how == "receive" {
            start_waiting(WaitReason::ChanSend, move || to.send(()).unwrap_or_default())
        } else {
            start_waiting(WaitReason::ChanReceive, move || from.recv().unwrap_or_default())
        };
        let begun = Arc::new(AtomicBool::new(false));
        let (begin, to, from) = (Arc::clone(&begun), tx.clone(), rx.clone());
        let waker = go(move || {
            testing::outstay_slice(&begin);
            match how {
                "send" => to.try_send(()).is_ok(),
                "receive" => from.try_recv().is_ok(),
                _ => to.close(),
            }
        });
        while !begun.load(Ordering::Relaxed) {
            gosched();
        }
        let waiting = testing::waits_for(waits).is_some();
        if waiting && rx.try_recv().is_err() && tx.try_send(()).is_err() {
            lost.push(how);
        }
        waker.join();
        rx.close();
    }
    testing::set_slice(Nanos::from_millis(10));
    gomaxprocs(i32::try_from(before).unwrap_or(1));
    equal("what has woken somebody that could not run", &lost, &vec![])
}
