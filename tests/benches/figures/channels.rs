//! Values that go from goroutine to goroutine.

use core::hint::black_box;

use gzero::{Receiver, Sender, chan, go, select};

use crate::measure::Bench;

pub fn measure(bench: &Bench) {
    bench.scaled("chan_pingpong", 100_000, ping_pong);
    bench.scaled("chan_buffered", 400_000, buffered);
    bench.scaled("select_2", 100_000, select_2);
}

/// There and back: two sends, two receives, two switches.
fn ping_pong(times: u64) -> u64 {
    let (to_pong, from_ping) = chan::<u64>(0);
    let (to_ping, from_pong) = chan::<u64>(0);
    let (done, ended) = chan(0);
    let pong_done = done.clone();
    go(move || {
        for _ in 0..times {
            to_ping.send(receive(&from_ping)).expect("ping receives");
        }
        pong_done.send(()).expect("main waits");
    });
    go(move || {
        for number in 0..times {
            to_pong.send(number).expect("pong receives");
            receive(&from_pong);
        }
        done.send(()).expect("main waits");
    });
    assert_eq!(ended.iter().count(), 2);
    times
}

fn receive(from: &Receiver<u64>) -> u64 {
    from.recv().expect("the other side sends")
}

fn buffered(times: u64) -> u64 {
    let (sender, receiver) = chan::<u64>(128);
    let (done, ended) = chan(0);
    go(move || {
        for number in 0..times {
            sender.send(number).expect("somebody receives");
        }
        sender.close();
    });
    go(move || {
        let sum = receiver.iter().sum::<u64>();
        done.send(black_box(sum)).expect("main waits");
    });
    assert_eq!(ended.recv(), Ok(times * (times - 1) / 2));
    times
}

/// Two senders, each with a channel of its own, and one that takes from either.
fn select_2(times: u64) -> u64 {
    let each = times / 2;
    let ((to_a, a), (to_b, b)) = (chan(0), chan(0));
    let (done, ended) = chan(0);
    // A channel without senders would be closed, and so ready for ever.
    let kept = [to_a.clone(), to_b.clone()];
    for to in [to_a, to_b] {
        go(move || count_into(&to, each));
    }
    go(move || {
        let mut sum = 0;
        for _ in 0..each * 2 {
            select! {
                recv(a) -> value => sum += value.expect("as many are sent"),
                recv(b) -> value => sum += value.expect("as many are sent"),
            }
        }
        done.send(sum).expect("main waits");
    });
    assert_eq!(ended.recv(), Ok(each * each.saturating_sub(1)));
    drop(kept);
    each * 2
}

fn count_into(to: &Sender<u64>, end: u64) {
    for number in 0..end {
        to.send(number).expect("somebody receives");
    }
}
