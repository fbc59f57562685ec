//! Channels: values arrive once, in order, and nobody waits for ever.
#![no_std]
#![no_main]

extern crate alloc;

use gzero::{chan, go};
use tests::{Verdict, equal};

tests::image! {
    pass: [
        a_value_goes_from_stack_to_stack,
    ],
}

fn a_value_goes_from_stack_to_stack() -> Verdict {
    for capacity in [0, 1, 7] {
        let (tx, rx) = chan(capacity);
        go(move || {
            for n in 0..1_000_u32 {
                tx.send(n).expect("the receiver is there");
            }
        });
        for n in 0..1_000 {
            equal("a value", &rx.recv().ok(), &Some(n))?;
        }
        equal("after the last", &rx.recv().is_err(), &true)?;
    }
    Ok(())
}
