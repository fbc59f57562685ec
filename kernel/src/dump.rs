//! All goroutines on the console, for a look at a program that does not do what it should.

use machine::backtrace::Start;
use machine::console;
use machine::percpu::Pinned;

use crate::deadlock::WaitsFor;
use crate::m;
use crate::stacks::is_free;
use crate::trace::{self, State};
use crate::world::{StopReason, try_stop_the_world};

/// Prints every living goroutine with its frames, the last call first.
///
/// A goroutine's line has its number, its name, what it does, and for what and for how many minutes it waits. The next one has
/// the object that it waits on, as the report of a deadlock has: kind, name and address of a lock, and who holds it; of a
/// channel, of a lock whose readers a writer waits for, and of others the address; or a goroutine whose end it waits for. The
/// one that calls comes first. Each line comes out in one piece.
///
/// The world is stopped meanwhile, so that all of it is of one moment. Where that cannot be done at once (another has it
/// stopped or is about to; the caller holds a lock of the runtime, or does not stand on a goroutine's own stack) others run
/// on: of those that run there are no frames, of locks there is no more than the address, and what is printed of others may be
/// out of date.
///
/// Does not block; may be called on any stack.
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
    let waits_for = match &world {
        Some(_) => WaitsFor::in_still_world,
        None => WaitsFor::at_a_glance,
    };
    trace::print_all(start, &|info| {
        let waits = matches!(info.state, State::Waiting { .. });
        if let Some(object) = waits.then(|| waits_for(m::runtime(), info.index())).filter(WaitsFor::is_object)
        {
            console::write_fmt(format_args!("  waits: {object}\n"));
        }
    });
    drop(world);
}
