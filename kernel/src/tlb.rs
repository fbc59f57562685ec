//! Making all CPUs forget translations that are no longer true.
//!
//! Every change that takes a translation away raises a number ([`Runtime::tlb`]) after it has changed the tables. A CPU
//! that flushes keeps the number that it read before. Who sleeps or is stopped touches nothing that can be unmapped (at most
//! the stack of the goroutine that it has in hand), so it is not interrupted: it compares the numbers when it comes in again
//! ([`catch_up`]), as Linux does for lazy CPUs. Where page tables go, it is, as there ([`Who::All`]).
//! Each of the others gets an interrupt, and the caller waits until it has flushed or has left.
//!
//! *Why no CPU is missed.* The caller raises the number, fences, and looks at each gate; a CPU comes in, fences, and looks
//! at the number. Fences have one order: the CPU sees the new number, or the caller sees the CPU.
//!
//! *Why nobody waits in a ring.* The caller waits with interrupts on, so that it answers others who do the same, and stops
//! of the world are left pending by its pin. The handler needs no lock.

use core::sync::atomic::{Ordering, fence};

use machine::apic;
use machine::apic::icr::{Ipi, Target};
use machine::clock::{self, Nanos};
use machine::entry::Frame;
use machine::idt;
use machine::irq;
use machine::paging;
use machine::percpu::Pinned;
use machine::vector::Vector;

use crate::m::{self, M};
use crate::panic::throw;
use crate::runtime::{self, Runtime};

/// The interrupt is sent again to whoever has not answered after this time.
const RESEND: Nanos = Nanos(100_000);

pub(crate) fn init() {
    idt::register(Vector::SHOOTDOWN, interrupt);
}

fn interrupt(_: &mut Frame) {
    if let Some((rt, m)) = runtime::try_get().zip(m::of_this_cpu()) {
        catch_up(rt, m);
    }
}

/// Forgets translations if any were taken away since this CPU last did. The caller stays on its CPU.
pub(crate) fn catch_up(rt: &Runtime, m: &M) {
    // Pairs with the fence in `shootdown`, after the gate of this CPU was passed.
    fence(Ordering::SeqCst);
    // Acquire pairs with the Release in `shootdown`: the tables are changed.
    let now = rt.tlb.load(Ordering::Acquire);
    if m.tlb_seen.load(Ordering::Relaxed) != now {
        paging::flush();
        // Release pairs with the Acquire in `shootdown`. An interrupt in between stores the same or a later number, and
        // this store an older one then: that costs one flush more.
        m.tlb_seen.store(now, Ordering::Release);
    }
}

/// Who must have flushed before a [`shootdown`] returns. The others do before they touch anything that can be unmapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// CPUs that run: enough for pages.
    Running,
    /// All, those that sleep or are stopped too: for page tables, which a processor may read ahead of what it is told to do.
    All,
}

/// Makes CPUs forget all translations of pages that are not mapped any more, and returns when they have.
///
/// Call with interrupts on, on any stack but a handler's; locks may be held that no handler needs. While the world is
/// stopped nobody else is running: stopped CPUs catch up when they go on.
///
/// # Throws
/// With interrupts off: two callers would wait for each other.
pub(crate) fn shootdown(who: Who) {
    if !irq::enabled() {
        throw(format_args!("a TLB shootdown with interrupts off would wait for ever"));
    }
    let rt = m::runtime();
    let pinned = Pinned::new();
    let me = m::current(&pinned);
    // Release pairs with the Acquire in `catch_up`.
    let number = rt.tlb.fetch_add(1, Ordering::Release) + 1;
    catch_up(rt, me);
    for m in rt.ms.iter().filter(|m| m.index != me.index) {
        let must_flush = || who == Who::All || rt.world.is_running(m.index);
        let must_wait = || m.tlb_seen.load(Ordering::Acquire) < number && must_flush();
        while must_wait() {
            apic::send(Ipi::Fixed(Vector::SHOOTDOWN), Target::One(m.block.apic_id()));
            if clock::spin_until(clock::now() + RESEND, || !must_wait()) {
                break;
            }
        }
    }
}
