//! How much stack goroutines have come to use, by their names.
//!
//! A goroutine that stays in the page with which its stack begins costs nothing here. For the others the page-fault handler notes how far
//! a stack has grown, and raises the mark of the name in a table of fixed size: without a lock. On a stack that one before it has made
//! grow no page faults tell what a goroutine uses. Where that could raise the mark, the pages are filled with zeros before it starts, and
//! at its end what it has written is looked for ([`stack::measure`]); once the mark of a name is in the last page of such stacks, its goroutines cost
//! one look at it.

use core::sync::atomic::{AtomicU64, Ordering};

use machine::frames::FRAME_SIZE;
use machine::stack::{self, StackId};
use sched::GoIndex;

use crate::goroutine::{Body, unpack};
use crate::runtime;

/// Names that have a mark of their own; all further ones share one.
const NAMES: usize = 128;

/// The mark of a name.
struct Mark {
    /// The name as a word; 0 while nobody has the place.
    name: AtomicU64,
    bytes: AtomicU64,
}

impl Mark {
    const fn new() -> Self {
        Self { name: AtomicU64::new(0), bytes: AtomicU64::new(0) }
    }

    fn raise(&self, bytes: u64) {
        // Relaxed: for reports.
        self.bytes.fetch_max(bytes, Ordering::Relaxed);
    }

    /// Whether the place is this name's, which takes it if it is nobody's.
    fn is_of(&self, word: u64) -> bool {
        // Relaxed, both: a name is a constant, and the place keeps it for ever.
        match self.name.load(Ordering::Relaxed) {
            0 => match self.name.compare_exchange(0, word, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => true,
                Err(other) => other == word,
            },
            other => other == word,
        }
    }
}

static MARKS: [Mark; NAMES] = [const { Mark::new() }; NAMES];
/// Of goroutines without a name.
static NAMELESS: Mark = Mark::new();
/// Of all whose names have found no place.
static OTHERS: Mark = Mark::new();

/// The mark of a name.
fn mark(word: u64) -> &'static Mark {
    if word == 0 {
        return &NAMELESS;
    }
    // Names are strings of the program, whose addresses are close together.
    let start = usize::try_from(word % NAMES as u64).unwrap_or(0);
    let (behind, front) = MARKS.split_at(start);
    front.iter().chain(behind).find(|mark| mark.is_of(word)).unwrap_or(&OTHERS)
}

/// A page of a stack was mapped: see [`stack::on_growth`].
pub(crate) fn grown(stack: StackId, bytes: u64) {
    if let Some((rt, g)) = runtime::try_get().zip(GoIndex::new(stack.number())) {
        let body = rt.slot(g).body();
        body.stack_has_grown(u32::try_from(bytes / FRAME_SIZE).unwrap_or(u32::MAX));
        mark(body.name_word()).raise(bytes);
    }
}

/// The mark that a goroutine may raise on a stack that has grown before; `None`: it is in the last page already.
fn mark_to_raise(body: &Body) -> Option<&'static Mark> {
    let above_last = u64::from(body.grown_pages().saturating_sub(1)) * FRAME_SIZE;
    // Relaxed: as in `raise`.
    Some(mark(body.name_word())).filter(|mark| mark.bytes.load(Ordering::Relaxed) <= above_last)
}

/// Whether a goroutine wants a clear stack that is about to be started, with its name, on one that has grown before.
#[inline(never)]
pub(crate) fn wants_clear_stack(body: &Body) -> bool {
    mark_to_raise(body).is_some()
}

/// The goroutine that calls, on its own stack, which has grown, ends.
#[inline(never)]
pub(crate) fn note_end(body: &Body, g: GoIndex) {
    if let Some(mark) = mark_to_raise(body)
        && let Some(bytes) = stack::measure(body.stack(g))
    {
        // A mark within the last page would hide what goes beyond it there.
        mark.raise(bytes.next_multiple_of(FRAME_SIZE));
    }
}

/// How much stack goroutines of one name have come to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StackUse {
    /// The name; `None` for goroutines that have none.
    pub name: Option<&'static str>,
    /// The most bytes that one of them has used, in whole pages. Where it was preempted, the room for that counts: a little more than a page.
    pub bytes: u64,
}

/// How much stack goroutines have come to use, for each name of which one has used more than the page of 4 KiB with which a stack
/// begins. What goroutines may use is in [`Builder`](crate::Builder).
///
/// From 128 names on the others share an entry, with the name `...`.
///
/// ```
/// use gzero::stats::{StackUse, stack_use};
///
/// for StackUse { name, bytes } in stack_use() {
///     gzero::println!("{}: {bytes}", name.unwrap_or("without a name"));
/// }
/// ```
pub fn stack_use() -> impl Iterator<Item = StackUse> {
    let named = MARKS.iter().map(|mark| (Some(unpack(mark.name.load(Ordering::Relaxed))), mark));
    let all = named.chain([(None, &NAMELESS), (Some("..."), &OTHERS)]);
    all.map(|(name, mark)| StackUse { name, bytes: mark.bytes.load(Ordering::Relaxed) })
        .filter(|entry| entry.bytes > 0)
}
