//! Readying for programs. The kernel's own waits are readied by [`crate::park::goready`].

use sched::GoRef;

use crate::park;

/// Makes a parked goroutine runnable, on the CPU that calls. Go's `goready`.
///
/// For waits of one's own making; [`unpark`](crate::unpark()) is the safe one, for who waits by [`park`](crate::park()). Does not block, and may be
/// called on any stack.
///
/// # Safety
/// 1. The handle was given to the `publish` of a [`gopark`](crate::gopark()), which returns `true`, or to the function of an
///    [`mcall`](crate::mcall()).
/// 2. This is the only `goready` for that wait.
///
/// Others would end whatever the goroutine waits for then. It may have lent its stack meanwhile, to goroutines of a
/// [scope](crate::scope()) or to a channel.
///
/// ```
/// gzero::gopark(gzero::WaitReason::Park, |me| {
///     // SAFETY: the handle is that of this wait, and nobody else has it.
///     unsafe { gzero::goready(me) };
///     true
/// });
/// ```
///
/// # Throws
/// When the goroutine does not wait, or has ended. When it waits for something of the kernel's, it throws itself, as far as it
/// notices.
pub unsafe fn goready(g: GoRef) {
    park::goready(g);
}
