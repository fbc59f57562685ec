//! The way past the arena's lock: the host may have stopped the CPU that holds it.
//!
//! Two [shelves](Shelf) lie beside it. Whoever makes a span under the lock puts some runs aside for those who will find it
//! busy ([`spare`](take_spare)); and who wants to give a span back to the arena then leaves it for the next one that has the
//! lock ([`give_back`]). On a machine with one CPU both stay empty.

use super::arena::{Arena, Mapped, Wanted};
use super::class::Class;
use super::list::Lists;
use super::shards::All;
use super::shelf::Shelf;
use super::span::{Span, State};
use super::tables::{Number, Tables};
use crate::lock::{Guard, Lock, Rank};

static ARENA: Lock<Arena> = Lock::new(Rank::Heap, Arena::new());
/// Runs of [`PAGES`] pages, each with a number.
static SPARE: Shelf = Shelf::new();
/// Spans that nobody uses any more.
static RETURNED: Shelf = Shelf::new();

/// Pages of a run that is put aside: enough for the usual classes.
const PAGES: usize = 4;
/// Runs that are put aside in one hold of the lock.
const AT_ONCE: usize = 8;

/// Waits for the arena, and gives it what was left for it.
pub(super) fn arena() -> Guard<'static, Arena> {
    with_returned(ARENA.lock())
}

fn with_returned(mut arena: Guard<'static, Arena>) -> Guard<'static, Arena> {
    // What is there now: others may go on leaving more as long as this takes.
    let left = (0..RETURNED.len()).map_while(|_| RETURNED.take());
    left.for_each(|number| arena.give_back(number));
    arena
}

/// Gives the run of a span back, which holds no block, and its number: at once, or by whoever has the arena next.
pub(super) fn give_back(number: Number) {
    // Nobody finds a block in it from here on.
    Mapped.span(number).set_state(State::Held);
    match ARENA.try_lock() {
        Some(arena) => with_returned(arena).give_back(number),
        None if RETURNED.put(number) => {}
        None => arena().give_back(number),
    }
}

/// Takes a span of a class from what is free and mapped, or, if the arena is busy, from what was put aside.
pub(super) fn take(class: Class) -> Option<Number> {
    let Some(arena) = ARENA.try_lock() else { return take_spare(class) };
    let mut arena = with_returned(arena);
    let wanted = Wanted { pages: class.pages(), align: 1 };
    let number = arena.take(wanted, &|span, start| span.prepare(start, class))?;
    put_aside(&mut arena);
    Some(number)
}

/// Takes a run that was put aside for a class that it has room for.
fn take_spare(class: Class) -> Option<Number> {
    let number = (class.pages() <= PAGES).then(|| SPARE.take())??;
    let span = Mapped.span(number);
    span.prepare_in(span.start(), PAGES, class);
    Some(number)
}

/// Puts runs aside until there is one for each CPU.
fn put_aside(arena: &mut Arena) {
    let cpus = All.count();
    let most = if cpus > 1 { cpus } else { 0 };
    let prepare = |span: &Span, start| span.prepare_whole(start, PAGES, State::Held);
    for _ in SPARE.len()..most.min(SPARE.len() + AT_ONCE) {
        let Some(number) = arena.take(Wanted { pages: PAGES, align: 1 }, &prepare) else { return };
        if !SPARE.put(number) {
            return arena.give_back(number);
        }
    }
}

/// How many runs lie aside, and their pages.
pub(super) fn aside() -> (u64, u64) {
    let runs = SPARE.len() as u64;
    (runs, runs * PAGES as u64)
}

/// Gives the arena what was put aside, and says how many runs there were.
pub(super) fn put_back() -> usize {
    core::iter::from_fn(|| SPARE.take()).map(give_back).count()
}
