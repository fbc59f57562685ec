//! Philosophers around a table: each needs the fork on the left and the one on the right to eat.
//!
//! `cargo run --example dining` takes the forks in one order for all, so everybody eats.
//! `cargo run --example dining -- --args "variant=deadlock"` lets all of them take the left fork first, and then wait for the
//! right one for ever; the report names the ring.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::sync::Arc;

use gzero::sync::{Barrier, Mutex, WaitGroup};
use gzero::{boot_args, go_named, println};

gzero::entry!(main, parameters = ["variant", "meals"]);

const SEATS: usize = 5;

static NAMES: [&str; SEATS] = ["Hypatia", "Diotima", "Aspasia", "Themistoclea", "Arete"];

/// Fork n is to the left of philosopher n, and to the right of the one before.
static FORKS: [Mutex<()>; SEATS] = [
    Mutex::named("fork 0", ()),
    Mutex::named("fork 1", ()),
    Mutex::named("fork 2", ()),
    Mutex::named("fork 3", ()),
    Mutex::named("fork 4", ()),
];

/// How often each has eaten.
static MEALS: Mutex<[u32; SEATS]> = Mutex::named("meals", [0; SEATS]);

/// Where all meet with a fork in hand, so that nobody is fast enough to get two.
static ALL_HAVE_ONE: Barrier = Barrier::new(5);

fn main() {
    let deadlock = boot_args().choice("variant", false, &[("ordered", false), ("deadlock", true)]);
    let meals = boot_args().number("meals", 100u32, 1..=1_000_000);
    let all = Arc::new(WaitGroup::new());
    for (seat, name) in NAMES.into_iter().enumerate() {
        all.add(1);
        let all = Arc::clone(&all);
        go_named(name, move || {
            (0..meals).for_each(|_| if deadlock { eat_left_first(seat) } else { eat(seat) });
            all.done();
        });
    }
    all.wait();
    let eaten = MEALS.lock();
    for (name, meals) in NAMES.iter().zip(*eaten) {
        println!("{name} ate {meals} times");
    }
}

/// Takes the fork with the lower number first: a ring of philosophers would need one who does not.
fn eat(seat: usize) {
    let right = (seat + 1) % SEATS;
    let first = FORKS[seat.min(right)].lock();
    let second = FORKS[seat.max(right)].lock();
    MEALS.lock()[seat] += 1;
    drop((first, second));
}

/// Takes the left fork first, as everybody does.
fn eat_left_first(seat: usize) {
    let left = FORKS[seat].lock();
    ALL_HAVE_ONE.wait();
    let right = FORKS[(seat + 1) % SEATS].lock();
    MEALS.lock()[seat] += 1;
    drop((left, right));
}
