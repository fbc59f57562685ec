//! All goroutines on the console, for a look at a program that does not do what it should.

use machine::backtrace::Start;
use machine::percpu::Pinned;

use crate::stacks::is_free;
use crate::trace;
use crate::world::{StopReason, try_stop_the_world};

/// Prints every living goroutine with its frames, the last call first.
///
/// A goroutine's line has its number, its name, what it does, and for what and for how many minutes it waits. The one that
/// calls comes first. Each line comes out in one piece.
///
/// The world is stopped meanwhile, so that all of it is of one moment. Where that cannot be done at once (another has it
/// stopped or is about to; the caller holds a lock of the runtime, or does not stand on a goroutine's own stack) others run
/// on: of those that run there are no frames, and what is printed of others may be out of date.
///
/// ```
/// gzero::go(|| gzero::park_for_devices());
/// gzero::dump();
/// ```
#[inline(never)]
pub fn dump() {
    let start = Start::caller();
    let pinned = Pinned::new();
    let may_stop = is_free(&pinned);
    drop(pinned);
    let world = may_stop.then(|| try_stop_the_world(StopReason::StackTrace)).flatten();
    trace::print_all(start);
    drop(world);
}
