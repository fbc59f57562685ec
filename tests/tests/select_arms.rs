//! Selects of many arms, those that end by a time, and those that never end.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use gzero::chan::{RecvError, RecvTimeoutError, SendTimeoutError};
use gzero::select::{Chosen, Limit, RecvArm, Select, SendArm, Sink, run};
use gzero::time::{Duration, Instant};
use gzero::{Receiver, Sender, chan, go, on_m, select};
use tests::{Drops, Random, Verdict, equal, wait_until_alone};

tests::image! {
    pass: [
        a_hundred_arms,
        a_select_of_any_number_of_arms,
        an_arm_is_chosen_once,
        an_added_arm_sends_to_whatever_leads_to_a_sender,
        a_time_out_ends_a_wait,
        an_after_arm_ends_a_select,
        time_outs_race_with_values,
    ],
    dies: [
        ("fatal", "waits: select (no cases)", an_empty_select),
        ("fatal", "waits: nil chan", a_select_of_absent_channels),
        ("fatal", "waits: select", a_select_without_senders),
        ("throw", "select not on the G stack", a_select_inside_of_on_m),
        ("throw", "select not on the G stack", a_default_inside_of_on_m),
    ],
}

/// One of these arms, by its number: even ones send it, odd ones receive it.
#[expect(
    clippy::too_many_lines,
    clippy::cognitive_complexity,
    clippy::large_stack_arrays,
    clippy::large_stack_frames,
    reason = "a hundred arms are the case"
)]
fn hundred(txs: &[Sender<u32>], rxs: &[Receiver<u32>]) -> (usize, Result<u32, RecvError>) {
    select! {
        send(txs[0], 0_u32) -> r => (0, r.map(|()| 0).map_err(|_| RecvError)),
        recv(rxs[1]) -> v => (1, v),
        send(txs[2], 2_u32) -> r => (2, r.map(|()| 2).map_err(|_| RecvError)),
        recv(rxs[3]) -> v => (3, v),
        send(txs[4], 4_u32) -> r => (4, r.map(|()| 4).map_err(|_| RecvError)),
        recv(rxs[5]) -> v => (5, v),
        send(txs[6], 6_u32) -> r => (6, r.map(|()| 6).map_err(|_| RecvError)),
        recv(rxs[7]) -> v => (7, v),
        send(txs[8], 8_u32) -> r => (8, r.map(|()| 8).map_err(|_| RecvError)),
        recv(rxs[9]) -> v => (9, v),
        send(txs[10], 10_u32) -> r => (10, r.map(|()| 10).map_err(|_| RecvError)),
        recv(rxs[11]) -> v => (11, v),
        send(txs[12], 12_u32) -> r => (12, r.map(|()| 12).map_err(|_| RecvError)),
        recv(rxs[13]) -> v => (13, v),
        send(txs[14], 14_u32) -> r => (14, r.map(|()| 14).map_err(|_| RecvError)),
        recv(rxs[15]) -> v => (15, v),
        send(txs[16], 16_u32) -> r => (16, r.map(|()| 16).map_err(|_| RecvError)),
        recv(rxs[17]) -> v => (17, v),
        send(txs[18], 18_u32) -> r => (18, r.map(|()| 18).map_err(|_| RecvError)),
        recv(rxs[19]) -> v => (19, v),
        send(txs[20], 20_u32) -> r => (20, r.map(|()| 20).map_err(|_| RecvError)),
        recv(rxs[21]) -> v => (21, v),
        send(txs[22], 22_u32) -> r => (22, r.map(|()| 22).map_err(|_| RecvError)),
        recv(rxs[23]) -> v => (23, v),
        send(txs[24], 24_u32) -> r => (24, r.map(|()| 24).map_err(|_| RecvError)),
        recv(rxs[25]) -> v => (25, v),
        send(txs[26], 26_u32) -> r => (26, r.map(|()| 26).map_err(|_| RecvError)),
        recv(rxs[27]) -> v => (27, v),
        send(txs[28], 28_u32) -> r => (28, r.map(|()| 28).map_err(|_| RecvError)),
        recv(rxs[29]) -> v => (29, v),
        send(txs[30], 30_u32) -> r => (30, r.map(|()| 30).map_err(|_| RecvError)),
        recv(rxs[31]) -> v => (31, v),
        send(txs[32], 32_u32) -> r => (32, r.map(|()| 32).map_err(|_| RecvError)),
        recv(rxs[33]) -> v => (33, v),
        send(txs[34], 34_u32) -> r => (34, r.map(|()| 34).map_err(|_| RecvError)),
        recv(rxs[35]) -> v => (35, v),
        send(txs[36], 36_u32) -> r => (36, r.map(|()| 36).map_err(|_| RecvError)),
        recv(rxs[37]) -> v => (37, v),
        send(txs[38], 38_u32) -> r => (38, r.map(|()| 38).map_err(|_| RecvError)),
        recv(rxs[39]) -> v => (39, v),
        send(txs[40], 40_u32) -> r => (40, r.map(|()| 40).map_err(|_| RecvError)),
        recv(rxs[41]) -> v => (41, v),
        send(txs[42], 42_u32) -> r => (42, r.map(|()| 42).map_err(|_| RecvError)),
        recv(rxs[43]) -> v => (43, v),
        send(txs[44], 44_u32) -> r => (44, r.map(|()| 44).map_err(|_| RecvError)),
        recv(rxs[45]) -> v => (45, v),
        send(txs[46], 46_u32) -> r => (46, r.map(|()| 46).map_err(|_| RecvError)),
        recv(rxs[47]) -> v => (47, v),
        send(txs[48], 48_u32) -> r => (48, r.map(|()| 48).map_err(|_| RecvError)),
        recv(rxs[49]) -> v => (49, v),
        send(txs[50], 50_u32) -> r => (50, r.map(|()| 50).map_err(|_| RecvError)),
        recv(rxs[51]) -> v => (51, v),
        send(txs[52], 52_u32) -> r => (52, r.map(|()| 52).map_err(|_| RecvError)),
        recv(rxs[53]) -> v => (53, v),
        send(txs[54], 54_u32) -> r => (54, r.map(|()| 54).map_err(|_| RecvError)),
        recv(rxs[55]) -> v => (55, v),
        send(txs[56], 56_u32) -> r => (56, r.map(|()| 56).map_err(|_| RecvError)),
        recv(rxs[57]) -> v => (57, v),
        send(txs[58], 58_u32) -> r => (58, r.map(|()| 58).map_err(|_| RecvError)),
        recv(rxs[59]) -> v => (59, v),
        send(txs[60], 60_u32) -> r => (60, r.map(|()| 60).map_err(|_| RecvError)),
        recv(rxs[61]) -> v => (61, v),
        send(txs[62], 62_u32) -> r => (62, r.map(|()| 62).map_err(|_| RecvError)),
        recv(rxs[63]) -> v => (63, v),
        send(txs[64], 64_u32) -> r => (64, r.map(|()| 64).map_err(|_| RecvError)),
        recv(rxs[65]) -> v => (65, v),
        send(txs[66], 66_u32) -> r => (66, r.map(|()| 66).map_err(|_| RecvError)),
        recv(rxs[67]) -> v => (67, v),
        send(txs[68], 68_u32) -> r => (68, r.map(|()| 68).map_err(|_| RecvError)),
        recv(rxs[69]) -> v => (69, v),
        send(txs[70], 70_u32) -> r => (70, r.map(|()| 70).map_err(|_| RecvError)),
        recv(rxs[71]) -> v => (71, v),
        send(txs[72], 72_u32) -> r => (72, r.map(|()| 72).map_err(|_| RecvError)),
        recv(rxs[73]) -> v => (73, v),
        send(txs[74], 74_u32) -> r => (74, r.map(|()| 74).map_err(|_| RecvError)),
        recv(rxs[75]) -> v => (75, v),
        send(txs[76], 76_u32) -> r => (76, r.map(|()| 76).map_err(|_| RecvError)),
        recv(rxs[77]) -> v => (77, v),
        send(txs[78], 78_u32) -> r => (78, r.map(|()| 78).map_err(|_| RecvError)),
        recv(rxs[79]) -> v => (79, v),
        send(txs[80], 80_u32) -> r => (80, r.map(|()| 80).map_err(|_| RecvError)),
        recv(rxs[81]) -> v => (81, v),
        send(txs[82], 82_u32) -> r => (82, r.map(|()| 82).map_err(|_| RecvError)),
        recv(rxs[83]) -> v => (83, v),
        send(txs[84], 84_u32) -> r => (84, r.map(|()| 84).map_err(|_| RecvError)),
        recv(rxs[85]) -> v => (85, v),
        send(txs[86], 86_u32) -> r => (86, r.map(|()| 86).map_err(|_| RecvError)),
        recv(rxs[87]) -> v => (87, v),
        send(txs[88], 88_u32) -> r => (88, r.map(|()| 88).map_err(|_| RecvError)),
        recv(rxs[89]) -> v => (89, v),
        send(txs[90], 90_u32) -> r => (90, r.map(|()| 90).map_err(|_| RecvError)),
        recv(rxs[91]) -> v => (91, v),
        send(txs[92], 92_u32) -> r => (92, r.map(|()| 92).map_err(|_| RecvError)),
        recv(rxs[93]) -> v => (93, v),
        send(txs[94], 94_u32) -> r => (94, r.map(|()| 94).map_err(|_| RecvError)),
        recv(rxs[95]) -> v => (95, v),
        send(txs[96], 96_u32) -> r => (96, r.map(|()| 96).map_err(|_| RecvError)),
        recv(rxs[97]) -> v => (97, v),
        send(txs[98], 98_u32) -> r => (98, r.map(|()| 98).map_err(|_| RecvError)),
        recv(rxs[99]) -> v => (99, v),
    }
}

fn a_hundred_arms() -> Verdict {
    let (txs, rxs): (Vec<_>, Vec<_>) = (0..100).map(|_| chan(0)).unzip();
    for n in [0_u32, 1, 50, 51, 98, 99] {
        let at = usize::try_from(n).expect("small");
        let (tx, rx) = (txs[at].clone(), rxs[at].clone());
        go(move || {
            if n % 2 == 0 {
                assert_eq!(rx.recv(), Ok(n), "what the select has sent");
            } else {
                tx.send(n).expect("the channel is open");
            }
        });
        equal("the arm", &hundred(&txs, &rxs), &(at, Ok(n)))?;
    }
    Ok(())
}

fn a_select_of_any_number_of_arms() -> Verdict {
    let (txs, rxs): (Vec<_>, Vec<_>) = (0..300).map(|_| chan::<usize>(0)).unzip();
    let (words, text) = chan(0);
    let any = |value: usize| {
        let mut select = Select::new();
        for (n, rx) in rxs.iter().enumerate() {
            select = select.recv(rx, move |v| (n, v.ok()));
        }
        select.recv(&text, |word: Result<&str, _>| (1_000, word.ok().map(str::len))).send(
            &txs[299],
            value,
            |sent| (2_000, sent.err().map(|error| error.0)),
        )
    };
    equal("nothing is ready", &any(0).try_wait(), &None)?;
    for n in [0, 150, 298] {
        let tx = txs[n].clone();
        go(move || tx.send(n * 2).expect("open"));
        equal("a number", &any(0).wait(), &(n, Some(n * 2)))?;
    }
    go(move || words.send("word").expect("open"));
    equal("a word, or that there are no more", &any(0).wait().0, &1_000)?;
    wait_until_alone();
    let (drops, (tx, rx)) = (Drops::new(2), chan(0));
    let waits = Select::new().send(&tx, drops.value(0), |sent| sent.is_ok());
    equal("no receiver", &waits.try_wait(), &None)?;
    equal("the value is gone", &drops.counts(), &vec![1, 0])?;
    let (told, result) = chan(1);
    go(move || told.send(rx.recv().map(|value| value.number)).expect("open"));
    equal("sent", &Select::new().send(&tx, drops.value(1), |sent| sent.is_ok()).wait(), &true)?;
    equal("received", &result.recv(), &Ok(Ok(1)))?;
    equal("dropped", &drops.counts(), &vec![1, 1])
}

/// What the macro does not do, safe code can: it makes a second case of an arm.
fn an_arm_is_chosen_once() -> Verdict {
    let drops = Drops::new(3);
    let (tx, rx) = chan(2);
    let mut arm = SendArm::new(&tx, drops.value(0));
    equal("a send", &run([arm.case()], Limit::Default), &Chosen::Case)?;
    equal("another of the same", &run([arm.case()], Limit::Default), &Chosen::Default)?;
    equal("an arm's end", &arm.finish(Chosen::Case).is_some_and(|sent| sent.is_ok()), &true)?;
    equal("sent", &tx.len(), &1)?;
    tx.send(drops.value(1)).map_err(|_| "closed")?;
    let mut arm = RecvArm::new(&rx);
    equal("a receive", &run([arm.case()], Limit::Default), &Chosen::Case)?;
    equal("another of the same", &run([arm.case()], Limit::Default), &Chosen::Default)?;
    drop(arm.finish(Chosen::Case));
    equal("left", &rx.len(), &1)?;
    rx.close();
    let mut arm = SendArm::new(&tx, drops.value(2));
    equal("a closed channel", &run([arm.case()], Limit::Default), &Chosen::Case)?;
    equal("the same again", &run([arm.case()], Limit::Default), &Chosen::Default)?;
    drop(arm.finish(Chosen::Case));
    drop((tx, rx));
    equal("drops", &drops.counts(), &vec![1; 3])
}

fn an_added_arm_sends_to_whatever_leads_to_a_sender() -> Verdict {
    let (tx, rx) = chan(8);
    let (nowhere, boxed): (Option<Sender<u32>>, Box<dyn Sink<Value = u32>>) = (None, Box::new(tx.clone()));
    let (shared, some) = (Arc::new(tx.clone()), Some(&tx));
    for _ in 0..50 {
        let select = Select::new().send(&nowhere, 0, |_| 0).send(&boxed, 1, |_| 1);
        let chosen = select.send(&shared, 2, |_| 2).send(&some, 3, |_| 3).wait();
        equal("what was sent", &rx.recv(), &Ok(chosen))?;
    }
    equal("to nothing", &Select::new().send(&nowhere, 0, |_| ()).try_wait(), &None)
}

fn a_time_out_ends_a_wait() -> Verdict {
    let (tx, rx) = chan(1);
    let length = Duration::from_millis(3);
    let when = Instant::now() + length;
    equal("no value", &rx.recv_deadline(when), &Err(RecvTimeoutError::Timeout))?;
    equal("not before", &(Instant::now() >= when), &true)?;
    equal("room", &tx.send_timeout(1, length), &Ok(()))?;
    let begin = Instant::now();
    equal("no room", &tx.send_timeout(2, length), &Err(SendTimeoutError::Timeout(2)))?;
    equal("not before", &(begin.elapsed() >= length), &true)?;
    equal("a value", &rx.recv_deadline(Instant::BOOT), &Ok(1))?;
    equal("a time that has passed", &rx.recv_deadline(Instant::BOOT), &Err(RecvTimeoutError::Timeout))?;
    tx.close();
    equal("closed", &rx.recv_timeout(length), &Err(RecvTimeoutError::Closed))?;
    equal("closed", &tx.send_timeout(3, length), &Err(SendTimeoutError::Closed(3)))
}

#[expect(clippy::large_stack_frames, reason = "selects keep their arms on the stack")]
fn an_after_arm_ends_a_select() -> Verdict {
    let ((tx, rx), (full, kept)) = (chan(1), chan(0));
    let drops = Drops::new(1);
    let when = Instant::now() + Duration::from_millis(3);
    let late = select! {
        recv(rx) -> _v => false,
        send(full, drops.value(0)) -> _sent => false,
        after(when) => Instant::now() >= when,
    };
    equal("not before", &late, &true)?;
    equal("the value was dropped", &drops.counts(), &vec![1])?;
    tx.send(5).expect("open");
    let value = select! { after(Duration::from_secs(100)) => 0, recv(rx) -> v => v.unwrap_or(1) };
    equal("a value", &value, &5)?;
    let passed = select! { recv(rx) -> _v => false, after(Instant::BOOT) => true };
    equal("a time that has passed", &passed, &true)?;
    go(move || tx.send(6).expect("open"));
    let value = select! { after(Duration::from_secs(100)) => 0, recv(rx) -> v => v.unwrap_or(1) };
    equal("a value that comes", &value, &6)?;
    equal("only a time", &select! { after(Duration::from_micros(1)) => 7 }, &7)?;
    drop(kept);
    equal("nobody waits any more", &full.is_closed(), &true)
}

/// Times that come together with the values: what was sent is received once, what timed out comes back, and no time-out ends a
/// later wait.
fn time_outs_race_with_values() -> Verdict {
    const EACH: usize = 300;
    let drops = Drops::new(2 * EACH);
    let (tx, rx) = chan(0);
    let (told, results) = chan(2);
    for sender in 0..2 {
        let (tx, drops, told) = (tx.clone(), drops.clone(), told.clone());
        go(move || {
            let mut random = Random::new(sender as u64 + 1);
            let mut sent = 0;
            for n in 0..EACH {
                let value = drops.value(sender * EACH + n);
                let most = Duration::from_nanos(random.below(20_000));
                let passed = if n % 2 == 0 {
                    tx.send_timeout(value, most).is_ok()
                } else {
                    select! { send(tx, value) -> sent => sent.is_ok(), after(most) => false }
                };
                sent += u32::from(passed);
            }
            told.send(sent).expect("open");
        });
    }
    drop(tx);
    let mut random = Random::new(9);
    let mut received = 0;
    loop {
        let most = Duration::from_nanos(random.below(20_000));
        let found = match random.below(3) {
            0 => rx.recv_timeout(most),
            1 => {
                select! { recv(rx) -> v => v.map_err(|_| RecvTimeoutError::Closed), after(most) => Err(RecvTimeoutError::Timeout) }
            }
            _ => {
                // Nothing but a value or the end ends this one.
                let value = rx.recv();
                equal("a wait without a time", &(value.is_err() && !rx.is_closed()), &false)?;
                value.map_err(|_| RecvTimeoutError::Closed)
            }
        };
        match found {
            Ok(_) => received += 1,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Closed) => break,
        }
    }
    let sent = results.recv().expect("one") + results.recv().expect("the other");
    equal("received", &received, &sent)?;
    wait_until_alone();
    equal("drops", &drops.counts(), &vec![1; 2 * EACH])
}

fn an_empty_select() {
    select! {}
}

fn a_select_of_absent_channels() {
    select! { recv(None::<Receiver<u32>>) => {}, send(None::<Sender<u32>>, 1) -> _sent => {} }
}

fn a_select_without_senders() {
    let (_tx, rx) = chan::<u32>(0);
    select! { recv(rx) => {} }
}

fn a_select_inside_of_on_m() {
    let (tx, rx) = chan(1);
    tx.send(1).expect("open");
    on_m(|| select! { recv(rx) => {} });
}

fn a_default_inside_of_on_m() {
    let (_tx, rx) = chan::<u32>(0);
    on_m(|| select! { recv(rx) => {}, default => {} });
}
