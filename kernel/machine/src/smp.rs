//! Starting the other CPUs, all at once.
//!
//! Intel SDM vol. 3A, "MP Initialization Protocol Algorithm for MP Systems": INIT, 10 ms, SIPI, 200 µs, and a
//! second SIPI to whoever has not come. Each step is done for all CPUs before the next, so 255 CPUs wait as
//! long as one. Only CPUs that the firmware lists as enabled are addressed.
//!
//! A CPU goes through these states; each arrow is one compare-exchange or a store by the side named:
//!
//! ```text
//!   Starting ──1──► Arrived ──2──► Online
//!      └───3──► Abandoned ◄──3──┘ (from Arrived)
//! ```
//!
//! 1. The CPU, standing on its own stack with its own tables, interrupts still off.
//! 2. The CPU, in its handler of the boot CPU's ping: so it is online only when interrupts reach it. Counting it
//!    earlier would let somebody wait for an answer that cannot come.
//! 3. The boot CPU, when the deadline has passed. A CPU that comes later fails step 1 or 2 and halts for good.
//!
//! The broadcast shorthand of the local APIC reaches CPUs that are left out, too, and those stand in the firmware's code
//! or nowhere, without an interrupt table. An NMI there is a triple fault, the end of the machine. So [`send_to_others`]
//! addresses the CPUs that are online one by one, and [`broadcast`] is for machines that have no others.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use bootloader_api::info::MemoryRegion;

use crate::apic::icr::{Ipi, Target};
use crate::apic::{self, Mode, timer};
use crate::clock::{self, Nanos};
use crate::frames;
use crate::gdt::{self, Segments};
use crate::heap;
use crate::idt;
use crate::irq;
use crate::percpu::{self, CpuId, PerCpu, Pinned};
use crate::stack::{self, KERNEL_STACK_SIZE, WholeStack};
use crate::trampoline::{self, TrampolineError};
use crate::vector::Vector;

const INIT_DELAY: Nanos = Nanos(10_000_000);
const SIPI_DELAY: Nanos = Nanos(200_000);
/// A CPU counts as dead when nobody has arrived or come online for this long, …
const PATIENCE: Nanos = Nanos(2_000_000_000);
/// … and this for each CPU that was called: an emulator's threads share the host's CPUs and come all at the same time, which is late.
const PATIENCE_FOR_EACH: Nanos = Nanos(40_000_000);
/// A ping is repeated after this time.
const PING_INTERVAL: Nanos = Nanos(10_000_000);

/// Frames that are left to the program when memory is too short for the stacks of all CPUs: 4 MiB.
const RESERVE: u64 = 1024;

const STARTING: u32 = 0;
const ARRIVED: u32 = 1;
const ONLINE: u32 = 2;
const ABANDONED: u32 = 3;

/// How the start of one CPU went.
#[derive(Debug, Clone, Copy)]
pub enum Outcome {
    /// Interrupts reach it.
    Online {
        /// From the first SIPI to the answer.
        after: Nanos,
        /// Startup interrupts sent to it.
        sipis: u32,
    },
    /// It did not come in time and is left out.
    Missing {
        /// Startup interrupts sent to it.
        sipis: u32,
    },
    /// Its id does not fit the APIC mode.
    Unreachable,
    /// No memory was left for its stacks.
    NoMemory,
}

/// One CPU that was to be started.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// Its number.
    pub id: CpuId,
    /// Its local APIC's id.
    pub apic_id: u32,
    /// What came of it.
    pub outcome: Outcome,
    /// Its block. Nobody uses it if the CPU is not online.
    pub block: &'static PerCpu,
}

/// What a CPU does once it is online. Called with interrupts on, on its kernel stack.
pub type Main = fn(&'static PerCpu) -> !;

struct Candidate {
    apic_id: u32,
    /// Why it is not started, if it is not.
    left_out: Option<Outcome>,
    state: AtomicU32,
    /// Written by the CPU before it is online, read after.
    online_at: AtomicU64,
    sipis: AtomicU32,
    block: PerCpu,
}

struct Ticket {
    stack: WholeStack,
    ists: WholeStack,
    segments: &'static Segments,
}

struct Start {
    candidates: Vec<Candidate>,
    tickets: Vec<Ticket>,
    main: Main,
    boot_cpu: u32,
}

/// No CPU is left out.
static BROADCAST: AtomicBool = AtomicBool::new(false);

static START: spin::Once<&'static Start> = spin::Once::new();

/// Starts the CPUs with these APIC ids; they become CPU 1, 2, … in this order.
///
/// Runs on the boot CPU with interrupts on. A CPU that does not come is reported, never waited for longer than
/// two seconds, and 40 ms for each CPU, after the last one that did.
///
/// # Errors
/// [`TrampolineError`]: nothing was started.
///
/// # Panics
/// When called twice.
pub fn start(apic_ids: &[u32], map: &[MemoryRegion], main: Main) -> Result<Vec<Report>, TrampolineError> {
    assert!(!START.is_completed(), "CPUs are started once");
    let start: &'static Start = Box::leak(Box::new(Start::new(apic_ids, main)));
    let stacks: &'static [u64] = Box::leak(start.tickets.iter().map(|t| t.stack.top).collect());
    START.call_once(|| start);
    idt::register(Vector::PING, |_| pinged());
    let page = trampoline::install(map, stacks, arrived)?;
    log::info!("stacks and start-up page are ready at {}", clock::now());
    let since = start.send_startup(page);
    log::info!("first SIPI at {since}, last at {}", clock::now());
    start.gather();
    log::info!("gathered at {}", clock::now());
    Ok(start.report(since))
}

/// Allows [`broadcast`] if every CPU of the machine is online; the firmware names so many in all, usable or not.
///
/// After [`start`], on the boot CPU.
pub fn allow_broadcast(named: usize) {
    let nobody_left_out = START
        .get()
        .is_some_and(|start| all_are_online(named, start.candidates.len(), start.in_state(ONLINE).count()));
    // Relaxed: who reads an older value does without.
    BROADCAST.store(nobody_left_out, Ordering::Relaxed);
}

/// Whether a machine of so many CPUs has the boot CPU and those that were to be started, no others, and all of these have
/// come.
const fn all_are_online(named: usize, candidates: usize, online: usize) -> bool {
    candidates + 1 == named && online == candidates
}

/// Sends an interrupt to every other CPU at once. `false`: CPUs are left out, and nothing is sent.
///
/// May be called with interrupts on or off, from any stack.
#[must_use = "where it may not be used, CPUs are addressed one by one"]
pub fn broadcast(ipi: Ipi) -> bool {
    let allowed = BROADCAST.load(Ordering::Relaxed);
    if allowed {
        apic::send(ipi, Target::AllOthers);
    }
    allowed
}

/// Sends an interrupt to every CPU that is online, but for this one.
///
/// May be called with interrupts on or off, from any stack, at any time after the boot CPU's block is installed.
pub fn send_to_others(ipi: Ipi) {
    let Some(start) = START.get() else { return };
    let pinned = Pinned::new();
    let me = percpu::current(&pinned).apic_id();
    let online = start.in_state(ONLINE).map(|candidate| candidate.apic_id);
    for id in core::iter::once(start.boot_cpu).chain(online).filter(|&id| id != me) {
        apic::send(ipi, Target::One(id));
    }
}

impl Start {
    fn new(apic_ids: &[u32], main: Main) -> Self {
        let mut candidates: Vec<Candidate> =
            (1..).zip(apic_ids).map(|(n, id)| Candidate::new(n, *id)).collect();
        let mut tickets = Vec::with_capacity(candidates.len());
        for candidate in &mut candidates {
            if !fits_mode(candidate.apic_id) {
                candidate.left_out = Some(Outcome::Unreachable);
            } else if let Some(ticket) = Ticket::new() {
                heap::add_cpu(&candidate.block);
                tickets.push(ticket);
            } else {
                candidate.left_out = Some(Outcome::NoMemory);
            }
        }
        Self { candidates, tickets, main, boot_cpu: percpu::of_this_cpu().apic_id() }
    }

    /// The CPUs that are started: as many as there are tickets.
    fn called(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates.iter().filter(|c| c.left_out.is_none())
    }

    /// INIT, SIPI, second SIPI. Returns the time of the first SIPI.
    fn send_startup(&self, page: u8) -> Nanos {
        for candidate in self.called() {
            apic::send(Ipi::Init, Target::One(candidate.apic_id));
        }
        clock::spin_for(INIT_DELAY);
        let since = clock::now();
        for candidate in self.called() {
            candidate.send_sipi(page);
        }
        clock::spin_for(SIPI_DELAY);
        self.in_state(STARTING).for_each(|candidate| candidate.send_sipi(page));
        since
    }

    /// Pings whoever has arrived until all are online or nobody has come for too long.
    fn gather(&self) {
        let patience = patience(self.tickets.len());
        let mut last_progress = clock::now();
        let mut last_ping = Nanos(0);
        let mut steps = 0;
        loop {
            let now = clock::now();
            if now.0 - last_ping.0 >= PING_INTERVAL.0 {
                last_ping = now;
                self.in_state(ARRIVED).for_each(Candidate::ping);
            }
            let (starting, online) = (self.in_state(STARTING).count(), self.in_state(ONLINE).count());
            let taken = self.tickets.len() - starting + online;
            if taken > steps {
                (steps, last_progress) = (taken, now);
            }
            if online == self.tickets.len() || now.0 - last_progress.0 > patience.0 {
                return;
            }
            core::hint::spin_loop();
        }
    }

    /// The called CPUs that are in a state at this moment.
    fn in_state(&self, state: u32) -> impl Iterator<Item = &Candidate> {
        // Acquire: pairs with the Release of the step that led there.
        self.called().filter(move |c| c.state.load(Ordering::Acquire) == state)
    }

    fn report(&'static self, since: Nanos) -> Vec<Report> {
        let report = |c: &'static Candidate| Report {
            id: c.block.id(),
            apic_id: c.apic_id,
            outcome: c.outcome(since),
            block: &c.block,
        };
        self.candidates.iter().map(report).collect()
    }
}

impl Ticket {
    /// `None` when memory is short.
    fn new() -> Option<Self> {
        if frames::stats().free < RESERVE {
            return None;
        }
        let stack = stack::allocate_whole(KERNEL_STACK_SIZE).ok()?;
        let ists = stack::allocate_ists().ok()?;
        Some(Self { stack, ists: ists.range, segments: gdt::build(ists.tops) })
    }
}

/// How long it may take until the next of so many CPUs comes.
fn patience(called: usize) -> Nanos {
    PATIENCE + Nanos(PATIENCE_FOR_EACH.0 * called as u64)
}

/// In xAPIC mode ids have eight bits, and 255 addresses everybody.
fn fits_mode(apic_id: u32) -> bool {
    apic::mode() == Mode::X2apic || apic_id < 0xff
}

impl Candidate {
    fn new(number: u32, apic_id: u32) -> Self {
        Self {
            apic_id,
            left_out: None,
            state: AtomicU32::new(STARTING),
            online_at: AtomicU64::new(0),
            sipis: AtomicU32::new(0),
            block: PerCpu::new(CpuId(number)),
        }
    }

    fn send_sipi(&self, page: u8) {
        apic::send(Ipi::Startup { page }, Target::One(self.apic_id));
        // Relaxed: only the boot CPU counts.
        self.sipis.store(self.sipis.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    fn ping(&self) {
        apic::send(Ipi::Fixed(Vector::PING), Target::One(self.apic_id));
    }

    /// Step 1: false if the boot CPU has given up.
    fn claim(&self) -> bool {
        // AcqRel: Release pairs with the boot CPU's Acquire loads.
        self.state.compare_exchange(STARTING, ARRIVED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Ends the start of this CPU: from here on it is online or abandoned for ever.
    fn outcome(&self, since: Nanos) -> Outcome {
        let sipis = self.sipis.load(Ordering::Relaxed);
        if let Some(reason) = self.left_out {
            return reason;
        }
        let mut state = self.state.load(Ordering::Acquire);
        while state != ONLINE {
            match self.state.compare_exchange(state, ABANDONED, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Outcome::Missing { sipis },
                Err(now) => state = now,
            }
        }
        let after = self.online_at.load(Ordering::Relaxed).saturating_sub(since.0);
        Outcome::Online { after: Nanos(after), sipis }
    }
}

fn start_data() -> &'static Start {
    START.get().expect("set before the first SIPI")
}

/// Rust entry of an application processor, on the stack of its ticket, with interrupts off. Takes no lock: all
/// CPUs come through here at the same time.
extern "C" fn arrived(ticket: u32) -> ! {
    let start = start_data();
    let own = &start.tickets[ticket as usize];
    let apic_id = apic::enter_mode();
    let Some(candidate) = start.called().find(|c| c.apic_id == apic_id) else {
        irq::halt_forever();
    };
    candidate.block.set_apic_id(apic_id);
    candidate.block.set_kernel_stack(own.stack.bottom, own.stack.top);
    candidate.block.set_interrupt_stacks(own.ists.bottom, own.ists.top);
    candidate.block.install();
    gdt::load(own.segments);
    idt::load();
    // Before the arrival: a ping to a local APIC that is still disabled would be lost, until the next.
    apic::enable();
    timer::enable();
    if !candidate.claim() {
        irq::halt_forever();
    }
    // Acquire: pairs with the Release in `pinged`, or in `outcome` when the boot CPU has given up. Interrupts are
    // off at each check: a ping that comes after it ends the halt.
    while candidate.state.load(Ordering::Acquire) == ARRIVED {
        irq::enable_and_halt();
        irq::disable();
    }
    irq::enable();
    if candidate.state.load(Ordering::Acquire) == ABANDONED {
        irq::halt_forever();
    }
    (start.main)(&candidate.block)
}

/// Step 2, in the handler.
fn pinged() {
    let id = percpu::of_this_cpu().id();
    let Some(candidate) = start_data().candidates.iter().find(|c| c.block.id() == id) else {
        return;
    };
    candidate.online_at.store(clock::now().0, Ordering::Relaxed);
    // Release: publishes `online_at`. A failure means that it is online or abandoned already.
    let step = candidate.state.compare_exchange(ARRIVED, ONLINE, Ordering::Release, Ordering::Relaxed);
    debug_assert!(step != Err(STARTING), "interrupts are on only after the arrival");
}

#[cfg(test)]
mod tests {
    use super::{all_are_online, patience};

    #[test]
    fn patience_grows_with_the_machine() {
        assert_eq!([0, 1, 255].map(|called| patience(called).0 / 1_000_000), [2_000, 2_040, 12_200]);
    }

    #[test]
    fn a_broadcast_is_for_machines_without_others() {
        assert!(all_are_online(4, 3, 3));
        assert!(all_are_online(1, 0, 0));
        assert!(!all_are_online(4, 3, 2), "one has not come");
        assert!(!all_are_online(5, 3, 3), "the firmware names one more, disabled or beyond what is started");
        assert!(!all_are_online(4, 4, 3), "one was to be started that the firmware does not name");
        assert!(!all_are_online(0, 0, 0), "the firmware names none");
    }
}
