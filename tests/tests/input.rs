//! What is typed at the console's serial port. The port sends to itself here.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;

use gzero::fd::{self, FdError};
use gzero::testing::{Port, loop_back, type_in};
use gzero::{
    JoinHandle, StopReason, WaitReason, chan, go, gosched, on_m, park, println, select, start_the_world,
    stdin, stop_the_world, testing,
};
use tests::{Verdict, equal, hogs, start_waiting};

tests::image! {
    pass: [
        what_is_typed_is_read_in_its_order,
        who_tries_does_not_wait,
        a_reader_waits_until_something_comes,
        a_reader_is_woken_while_all_cpus_are_busy,
        a_line_ends_as_terminals_end_it,
        ctrl_d_ends_the_lines,
        what_is_no_text_is_replaced,
        a_long_line_comes_in_pieces,
        the_end_of_a_long_line_is_not_that_of_the_input,
        who_reads_bytes_between_lines_hides_none_of_them,
        who_reads_on_leaves_the_next_turn_to_others,
        readers_take_turns_and_get_whole_lines,
        what_is_typed_while_the_world_is_stopped_is_kept,
        nothing_is_lost_while_nobody_reads,
        lines_are_one_arm_of_a_select,
        the_second_port_receives_too,
        other_descriptors_are_not_read,
    ],
    dies: [
        ("hang", "waits for input", who_waits_for_input_is_no_deadlock),
        ("fatal", "all goroutines are asleep - deadlock!", who_has_got_its_input_may_be_a_deadlock),
        ("throw", "fd::read not on the G stack", a_read_on_the_kernel_stack_throws),
    ],
}

/// Takes out what earlier cases have left, and begins to receive.
fn empty() -> Verdict {
    let mut rest = [0; 64];
    while fd::try_read(0, &mut rest).map_err(|error| format!("{error}"))? > 0 {}
    Ok(())
}

fn read(count: usize) -> Vec<u8> {
    let mut bytes = alloc::vec![0; count];
    let mut at = 0;
    while at < count {
        at += fd::read(0, &mut bytes[at..]).expect("the console's port");
    }
    bytes
}

fn line() -> Option<String> {
    stdin().expect("the console's port").read_line()
}

fn what_is_typed_is_read_in_its_order() -> Verdict {
    empty()?;
    let typed: Vec<u8> = (b' '..=b'~').collect();
    type_in(&typed);
    equal("the first bytes", &read(40), &typed[..40].to_vec())?;
    equal("a read of nothing", &fd::read(0, &mut []), &Ok(0))?;
    equal("the other bytes", &read(typed.len() - 40), &typed[40..].to_vec())
}

fn who_tries_does_not_wait() -> Verdict {
    empty()?;
    let mut bytes = [0; 8];
    equal("nothing was typed", &fd::try_read(0, &mut bytes), &Ok(0))?;
    type_in(b"abc");
    while fd::try_read(0, &mut bytes[..2]) == Ok(0) {
        gosched();
    }
    equal("what fits", &&bytes[..2], &&b"ab"[..])?;
    equal("what is left", &read(1), &b"c".to_vec())
}

fn a_reader_waits_until_something_comes() -> Verdict {
    empty()?;
    let (tx, rx) = chan(1);
    for round in 0..100_u8 {
        let tx = tx.clone();
        start_waiting(WaitReason::Device, move || tx.send(read(1)).expect("the case waits"));
        type_in(&[round]);
        equal("a byte", &rx.recv(), &Ok(alloc::vec![round]))?;
    }
    // While one waits, others that only try get nothing.
    let sender = tx.clone();
    start_waiting(WaitReason::Device, move || sender.send(read(1)).expect("the case waits"));
    equal("somebody else reads", &fd::try_read(0, &mut [0]), &Ok(0))?;
    type_in(b"!");
    equal("the last byte", &rx.recv(), &Ok(b"!".to_vec()))
}

fn a_reader_is_woken_while_all_cpus_are_busy() -> Verdict {
    empty()?;
    let (tx, rx) = chan(1);
    start_waiting(WaitReason::Device, move || tx.send(read(2)).expect("the case waits"));
    let stop = Arc::new(AtomicBool::new(false));
    hogs(&stop);
    type_in(b"hi");
    let got = rx.recv();
    stop.store(true, Ordering::Relaxed);
    equal("what the reader got", &got, &Ok(b"hi".to_vec()))
}

fn a_line_ends_as_terminals_end_it() -> Verdict {
    empty()?;
    type_in(b"unix\nold mac\rdos\r\n\n\r\r\nlast\n");
    for expected in ["unix", "old mac", "dos", "", "", "", "last"] {
        equal("a line", &line().as_deref(), &Some(expected))?;
    }
    Ok(())
}

fn ctrl_d_ends_the_lines() -> Verdict {
    empty()?;
    type_in(b"one\ntwo\x04\x04three\n");
    let lines: Vec<String> = stdin().map_err(|error| format!("{error}"))?.lines().collect();
    equal("lines before the end", &lines, &["one".into(), "two".into()].to_vec())?;
    equal("a line behind the end", &line().as_deref(), &Some("three"))
}

fn what_is_no_text_is_replaced() -> Verdict {
    empty()?;
    type_in(b"caf\xc3\xa9 \xff!\n");
    equal("a line", &line().as_deref(), &Some("caf\u{e9} \u{fffd}!"))
}

fn a_long_line_comes_in_pieces() -> Verdict {
    for (length, expected) in
        [(5000, [4096, 904, 3]), (4096, [4096, 3, 5]), (8192, [4096, 4096, 3]), (4095, [4095, 3, 5])]
    {
        empty()?;
        let reader: JoinHandle<Vec<usize>> =
            go(|| (0..3).map(|_| line().map_or(0, |line| line.len())).collect());
        for at in (0..length).step_by(16) {
            type_in(&[b'x'; 16][..16.min(length - at)]);
        }
        type_in(b"\r\nend\nlines\n");
        equal(&format!("a line of {length}"), &reader.join(), &expected.to_vec())?;
    }
    Ok(())
}

fn the_end_of_a_long_line_is_not_that_of_the_input() -> Verdict {
    empty()?;
    let reader = go(|| (line(), line(), line()));
    (0..256).for_each(|_| type_in(b"0123456789abcdef"));
    type_in(b"\x04more\n\x04");
    let (piece, more, end) = reader.join();
    equal("a piece", &piece.map(|line| line.len()), &Some(4096))?;
    equal("a line", &more.as_deref(), &Some("more"))?;
    equal("the end", &end, &None)
}

fn who_reads_bytes_between_lines_hides_none_of_them() -> Verdict {
    empty()?;
    type_in(b"a\r");
    equal("a line", &line().as_deref(), &Some("a"))?;
    type_in(b"\nraw\nb\n");
    equal("bytes", &read(4), &b"\nraw".to_vec())?;
    equal("the end of a line", &line().as_deref(), &Some(""))?;
    equal("a line", &line().as_deref(), &Some("b"))
}

fn who_reads_on_leaves_the_next_turn_to_others() -> Verdict {
    empty()?;
    let greedy = go(|| (0..9).map(|_| line()).collect::<Vec<_>>());
    while testing::waits_for(greedy.id()) != Some(WaitReason::Device) {
        gosched();
    }
    let (tx, rx) = chan(1);
    start_waiting(WaitReason::Semacquire, move || tx.send(line()).expect("the case waits"));
    for n in 0..10 {
        type_in(format!("{n}\n").as_bytes());
    }
    equal("the second line", &rx.recv(), &Ok(Some("1".into())))?;
    equal("lines of the other", &greedy.join().len(), &9)
}

fn readers_take_turns_and_get_whole_lines() -> Verdict {
    empty()?;
    let readers: Vec<JoinHandle<Option<String>>> = (0..20).map(|_| go(line)).collect();
    for n in 0..20 {
        type_in(format!("this is line {n}\n").as_bytes());
    }
    let mut lines: Vec<String> = readers.into_iter().filter_map(JoinHandle::join).collect();
    let mut expected: Vec<String> = (0..20).map(|n| format!("this is line {n}")).collect();
    lines.sort();
    expected.sort();
    equal("lines", &lines, &expected)
}

fn what_is_typed_while_the_world_is_stopped_is_kept() -> Verdict {
    empty()?;
    let (tx, rx) = chan(1);
    start_waiting(WaitReason::Device, move || tx.send(read(4)).expect("the case waits"));
    let world = stop_the_world(StopReason::Program);
    loop_back(Port::Com1, b"kept");
    start_the_world(world);
    equal("what was kept", &rx.recv(), &Ok(b"kept".to_vec()))
}

fn nothing_is_lost_while_nobody_reads() -> Verdict {
    empty()?;
    let before = fd::overruns(0);
    // Bytes other than XOFF, which comes in as well if it is sent while the port sends to itself.
    let typed: Vec<u8> = (0..4096 + 11).map(|n: u32| b'a' + (n % 23).to_le_bytes()[0]).collect();
    type_in(&typed[..4092]);
    // Four of these fit, or three; the others stay in the port.
    loop_back(Port::Com1, &typed[4092..]);
    let mut came = Vec::new();
    while came.len() < typed.len() {
        came.extend(read(1).into_iter().filter(u8::is_ascii_lowercase));
    }
    equal("overruns", &fd::overruns(0), &before)?;
    // Interrupts are on again.
    type_in(b"more");
    while came.len() < typed.len() + 4 {
        came.extend(read(1).into_iter().filter(u8::is_ascii_lowercase));
    }
    equal("bytes", &came, &[&typed[..], b"more"].concat())
}

fn lines_are_one_arm_of_a_select() -> Verdict {
    empty()?;
    let (tx, lines) = chan(0);
    go(move || {
        while let Some(line) = line() {
            tx.send(line).expect("the case waits");
        }
    });
    select! {
        recv(lines) -> line => return Err(format!("{line:?} came from nowhere").into()),
        after(Duration::from_millis(1)) => {}
    }
    type_in(b"a line\n\x04");
    equal("a line", &lines.recv().ok().as_deref(), &Some("a line"))?;
    equal("the end", &lines.recv().ok(), &None)
}

/// The plan runs this one on a machine with a second port.
fn the_second_port_receives_too() -> Verdict {
    let fd = match fd::open("serial2") {
        Ok(fd) => fd,
        Err(error) => return equal("no second port", &error, &FdError::NotPresent("serial2")),
    };
    equal("nothing has come", &fd::try_read(fd, &mut [0]), &Ok(0))?;
    let (tx, rx) = chan(1);
    start_waiting(WaitReason::Device, move || {
        let mut bytes = [0; 8];
        let count = fd::read(fd, &mut bytes);
        tx.send(count.map(|count| bytes[..count].to_vec())).expect("the case waits");
    });
    loop_back(Port::Com2, b"dump");
    let mut came = rx.recv().map_err(|error| format!("{error}"))?.map_err(|error| format!("{error}"))?;
    let mut byte = [0];
    while came.len() < 4 {
        let count = fd::read(fd, &mut byte).map_err(|error| format!("{error}"))?;
        came.extend_from_slice(&byte[..count]);
    }
    println!("the second port has received {}", String::from_utf8_lossy(&came));
    equal("bytes of the second port", &came, &b"dump".to_vec())
}

fn other_descriptors_are_not_read() -> Verdict {
    let null = fd::open("null").map_err(|error| format!("{error}"))?;
    for fd in [1, 2, null] {
        equal("a read", &fd::read(fd, &mut [0]), &Err(FdError::NotReadable(fd)))?;
        equal("a try", &fd::try_read(fd, &mut [0]), &Err(FdError::NotReadable(fd)))?;
    }
    equal("no descriptor", &fd::read(99, &mut [0]), &Err(FdError::BadFd(99)))?;
    equal("a write to the input", &fd::write(0, b"x"), &Err(FdError::NotWritable(0)))
}

fn who_waits_for_input_is_no_deadlock() {
    go(|| park());
    println!("waits for input");
    line();
}

fn who_has_got_its_input_may_be_a_deadlock() {
    empty().expect("the console's port");
    let reader = go(line);
    type_in(b"that is all\n");
    reader.join();
    park();
}

fn a_read_on_the_kernel_stack_throws() {
    on_m(|| fd::read(0, &mut [0])).expect("it throws before");
}
