//! Stopping the world: one CPU makes all others stop running goroutines, and lets them go on.
//!
//! Each CPU has a **gate**. It says whether the CPU takes part, and whether it is stopped:
//!
//! ```text
//!                 1 enter                    3 stop
//!       ┌─────┐ ──────────► ┌────┐ ──────────────────► ┌─────────┐
//!       │ Out │             │ In │                     │ Stopped │
//!       └─────┘ ◄────────── └────┘ ◄────────────────── └─────────┘
//!        ▲   │    2 leave    ▲            4 end
//!  4 end │   │ 5 take        │ 4 end
//!        │   ▼               │
//!       ┌───────┐ 6 knock ┌─────────┐
//!       │ Taken │ ──────► │ Knocked │   it has woken up, and waits for the end
//!       └───────┘         └─────────┘
//!        the CPU sleeps, and may not come in until the end
//! ```
//!
//! 1, 2, 3 and 6 are made by the gate's own CPU, 4 and 5 by the stopper. A CPU is Out while it sleeps for want of work;
//! such a CPU is stopped without being woken. One that is In gets an interrupt, and makes arrow 3 at the first instant at
//! which it holds no lock of the runtime.
//!
//! Whoever has knocked is let in by the end of the stop itself: left Out until it has woken up, it could be taken by the next
//! stop, and the one after, while the work that it was woken for waits.
//!
//! # Why exactly one side accounts for each CPU
//!
//! The stopper writes its name into the epoch, fences, and then looks at each gate. A CPU that leaves stores Out,
//! fences, and then looks at the epoch ([`World::leave`]). Fences have one order, so one of the two sees the other:
//!
//! * The stopper finds Out: it takes the gate (5). The CPU, if it sees the name, tries to take its gate back by
//!   compare-exchange, fails, and sleeps on as taken.
//! * The CPU sees the name and gets its gate back before the stopper looks: it is In, and stops by arrow 3. The
//!   stopper has sent it an interrupt that it does not need.
//! * The same, but the stopper had taken the gate and has ended the stop since: the CPU finds nothing to stop for.
//! * The stopper finds In, because the CPU had not left yet: then the CPU's look at the epoch comes after the
//!   stopper's store. It comes back and stops by arrow 3; until then the stopper may find it Out, which is not stopped.
//!
//! A CPU that comes in (1) either does so before the stopper looks, and gets the interrupt, or finds its gate taken and
//! waits. So after the stopper's look every gate gets to Stopped, Taken or Knocked, which nobody but the end leaves: the
//! stopper looks at one gate until it is there, and then at the next ([`World::is_stopped`]). Nothing is counted, and
//! no line is written by all CPUs; those of a gate carry what its CPU leaves behind, too.
//!
//! # Why nobody misses the end
//!
//! The end takes the name out of the epoch and then resets each gate; only then can the next stop begin. A stopped CPU
//! waits for its own gate to change ([`World::is_held`]), so CPUs that wait share no cache line. The epoch comes
//! first: a CPU that goes on finds no stop that it must follow. A CPU that waits halted says so in its gate's [`Note`],
//! which the end wakes after it has reset the gate: `note` argues why that is not missed.
//!
//! # Memory order
//!
//! What a CPU did before arrow 3 is visible to the stopper when it sees the gate; what the stopper did is visible to whoever
//! sees its gate reset.

use alloc::boxed::Box;

use crate::note::{Note, WakeAction};
use crate::sync::{AtomicU32, AtomicU64, Ordering, Padded, fence};

/// The CPU sleeps, or does not run goroutines at all.
const OUT: u32 = 0;
/// The CPU runs goroutines or looks for them.
const IN: u32 = 1;
/// The CPU has stopped.
const STOPPED: u32 = 2;
/// The CPU was Out when the stopper looked.
const TAKEN: u32 = 3;
/// The same, and it wants to come in.
const KNOCKED: u32 = 4;

/// Bits of the epoch that name the stopper: its number and 1, or 0.
const NAME: u64 = 0xffff;
/// The bit of the epoch at which the number of the stop begins.
const NUMBER: u32 = NAME.count_ones();

/// What the stopper does about one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Taken {
    /// Nothing: it sleeps, and cannot come in.
    Idle,
    /// Send it the stop interrupt.
    MustInterrupt,
}

/// What a CPU finds that wants to come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Entered {
    /// It is in.
    In,
    /// Its gate is taken: wait while it [is held](World::is_held) and try again.
    Wait,
}

/// What a CPU finds that has said that it goes to sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Left {
    /// It is out, and may sleep.
    Out,
    /// It is in again, because a stop has begun: it stops itself if it [must](World::must_stop) (the stop may be over
    /// already), and tries again.
    Back,
}

/// One CPU's part.
#[derive(Debug)]
#[repr(C)]
struct Gate<T> {
    state: AtomicU32,
    /// What the CPU halts on while it is stopped.
    note: Note,
    left: T,
}

/// All gates, and the stop that is on.
///
/// `T` is what a CPU leaves behind when it stops: it is written before the gate changes, and read when that is seen, so it lies
/// beside the gate.
#[derive(Debug)]
pub struct World<T = ()> {
    /// The number of the last stop, and while it is on, who stops.
    epoch: Padded<AtomicU64>,
    gates: Box<[Padded<Gate<T>>]>,
}

/// A stop that is on, for a CPU that must follow it. It cannot end before the CPU has stopped, so what this says stays true until
/// then.
#[derive(Debug)]
#[must_use = "the stopper waits for it"]
pub struct MustStop<'a, T> {
    gate: &'a Gate<T>,
    number: u64,
}

impl<T> MustStop<'_, T> {
    /// The number of the stop.
    #[inline]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// What the CPU leaves behind.
    #[inline]
    pub fn left(&self) -> &T {
        &self.gate.left
    }

    /// Arrow 3. The CPU runs nothing while it [is held](World::is_held).
    #[inline]
    pub fn stop(self) {
        let state = &self.gate.state;
        // Relaxed: its own, since it came in.
        assert!(state.load(Ordering::Relaxed) == IN, "a CPU stops once");
        // Nobody else changes a gate that is In. Release pairs with the Acquire in `is_stopped`.
        state.store(STOPPED, Ordering::Release);
    }
}

impl<T: Default> World<T> {
    /// A world of so many CPUs, all of them Out.
    ///
    /// # Panics
    /// There are 65,535 or more.
    pub fn new(cpus: u32) -> Self {
        assert!(u64::from(cpus) < NAME, "{cpus} CPUs have no names");
        let gate = |_| Padded(Gate { state: AtomicU32::new(OUT), note: Note::new(), left: T::default() });
        Self { epoch: Padded(AtomicU64::new(0)), gates: (0..cpus).map(gate).collect() }
    }
}

impl<T> World<T> {
    /// What this CPU leaves behind.
    #[inline]
    pub fn left(&self, cpu: usize) -> &T {
        &self.gates[cpu].left
    }

    /// Arrow 1, or arrow 6 and the wait for what it leads to.
    ///
    /// # Panics
    /// The CPU has stopped, or calls again while it is held.
    pub fn enter(&self, cpu: usize) -> Entered {
        let change = |from, to| {
            // Acquire pairs with the Release of `end`: what was done to the world is visible. Release: as in `take`.
            self.state(cpu).compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
        };
        loop {
            match change(OUT, IN) {
                // The end of the stop has let it in.
                Ok(_) | Err(IN) => return Entered::In,
                Err(TAKEN) if change(TAKEN, KNOCKED).is_ok() => return Entered::Wait,
                // It was let go in between.
                Err(TAKEN) => {}
                Err(found) => unreachable!("cpu {cpu} comes in and its gate is {found}"),
            }
        }
    }

    /// Arrow 2: the CPU has nothing to run and will sleep.
    pub fn leave(&self, cpu: usize) -> Left {
        // Release pairs with the Acquire of the stopper that takes the gate.
        self.state(cpu).store(OUT, Ordering::Release);
        // Pairs with the fence in `begin`.
        fence(Ordering::SeqCst);
        // Relaxed: the fence orders it.
        if !self.is_stopping() {
            return Left::Out;
        }
        // Acquire: pairs with the Release in `begin`, as in `must_stop`.
        match self.state(cpu).compare_exchange(OUT, IN, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Left::Back,
            Err(_) => Left::Out,
        }
    }

    /// The stop that this CPU, which is in, must follow, if one is on.
    #[inline]
    pub fn must_stop(&self, cpu: usize) -> Option<MustStop<'_, T>> {
        let gate: &Gate<T> = &self.gates[cpu];
        // The gate first. Acquire pairs with the Release of `end`: who is let in does not see the stop that is over.
        if gate.state.load(Ordering::Acquire) != IN {
            return None;
        }
        // Acquire pairs with the Release in `begin`: what the stopper did before is visible.
        let epoch = self.epoch.load(Ordering::Acquire);
        (epoch & NAME != 0 && epoch & NAME != name(cpu)).then_some(MustStop { gate, number: epoch >> NUMBER })
    }

    /// Whether the CPU has stopped, or may not come in. When that ends, what the stopper did is visible.
    #[inline]
    pub fn is_held(&self, cpu: usize) -> bool {
        // Acquire pairs with the Release in `end`.
        is_held(self.state(cpu).load(Ordering::Acquire))
    }

    /// Whether the CPU may run goroutines at this moment: it has come in and has not stopped. Conclusive for who
    /// has fenced after a change that the CPU looks for, behind a fence, when it comes in.
    pub fn is_running(&self, cpu: usize) -> bool {
        // Relaxed: the fences order it.
        self.state(cpu).load(Ordering::Relaxed) == IN
    }

    /// What a stopped CPU halts on: `prepare` with interrupts off, halt, `clear`, and look whether it still
    /// [is held](Self::is_held).
    pub fn note(&self, cpu: usize) -> &Note {
        &self.gates[cpu].note
    }

    /// Begins a stop by `me`, which is in. The caller then [takes](Self::take) every other CPU. One stop at a time: the
    /// kernel holds a semaphore around it.
    ///
    /// # Panics
    /// A stop is on, or `me` is not in.
    #[inline]
    pub fn begin(&self, me: usize) {
        let before = self.epoch.load(Ordering::Relaxed);
        assert!(before & NAME == 0, "a stop begins while another is on");
        assert!(self.state(me).load(Ordering::Relaxed) == IN, "cpu {me} stops the world and is not in it");
        // Release pairs with the Acquire in `must_stop`.
        self.epoch.store(before + (1 << NUMBER) + name(me), Ordering::Release);
        // Pairs with the fence in `leave`.
        fence(Ordering::SeqCst);
    }

    /// Arrow 5, or the advice to interrupt. Once for each CPU but the stopper.
    #[inline]
    pub fn take(&self, cpu: usize) -> Taken {
        // Relaxed: the fence in `begin` orders it. Only its own CPU leaves In.
        if self.state(cpu).load(Ordering::Relaxed) == IN {
            return Taken::MustInterrupt;
        }
        // Acquire pairs with the Release of `leave`; Release with the Acquire of `enter`.
        match self.state(cpu).compare_exchange(OUT, TAKEN, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => Taken::Idle,
            Err(_) => Taken::MustInterrupt,
        }
    }

    /// Whether all others have stopped, for the stopper. `next` is 0 when it asks for the first time in a stop, and counts the
    /// CPUs that need not be looked at again.
    #[inline]
    pub fn is_stopped(&self, next: &mut usize) -> bool {
        while let Some(gate) = self.gates.get(*next) {
            // Acquire pairs with the Release of `stop`, of `enter`, and of `leave` by way of `take`.
            if !is_held(gate.state.load(Ordering::Acquire)) && !self.is_stopper(*next) {
                return false;
            }
            *next += 1;
        }
        true
    }

    /// Whether this CPU has not stopped yet, for the stopper.
    #[inline]
    pub fn is_late(&self, cpu: usize) -> bool {
        // Relaxed: a look; `is_stopped` orders.
        !is_held(self.state(cpu).load(Ordering::Relaxed)) && !self.is_stopper(cpu)
    }

    fn is_stopper(&self, cpu: usize) -> bool {
        // Relaxed: the stopper's own.
        self.epoch.load(Ordering::Relaxed) & NAME == name(cpu)
    }

    /// Whether a stop is on, at about this moment.
    #[inline]
    pub fn is_stopping(&self) -> bool {
        self.epoch.load(Ordering::Relaxed) & NAME != 0
    }

    /// The number of the stop that is on, or of the last one; 0 before the first. Numbers rise.
    #[inline]
    pub fn number(&self) -> u64 {
        // Relaxed: the stopper's own, or for reports.
        self.epoch.load(Ordering::Relaxed) >> NUMBER
    }

    /// The end of the stop, and arrow 4 for all. `wake` is called for each CPU that halted while it was held: it must
    /// get an interrupt.
    ///
    /// # Panics
    /// No stop is on.
    #[inline]
    pub fn end(&self, mut wake: impl FnMut(usize)) {
        let epoch = self.epoch.load(Ordering::Relaxed);
        assert!(epoch & NAME != 0, "a stop ends and none is on");
        // Relaxed: the gates publish it. Only the stopper changes the epoch.
        self.epoch.store(epoch & !NAME, Ordering::Relaxed);
        for (cpu, gate) in self.gates.iter().enumerate() {
            // Relaxed: what is found is acted on by what follows.
            let mut found = gate.state.load(Ordering::Relaxed);
            if found == TAKEN {
                // The CPU itself may change it to Knocked meanwhile. Release: as below.
                found = gate
                    .state
                    .compare_exchange(TAKEN, OUT, Ordering::Release, Ordering::Relaxed)
                    .unwrap_or_else(|knocked| knocked);
            }
            match found {
                TAKEN => {}
                // Only the end leaves these states. Release pairs with the Acquire in `is_held` and `enter`.
                STOPPED | KNOCKED => gate.state.store(IN, Ordering::Release),
                _ => continue,
            }
            if gate.note.wake() == WakeAction::SendIpi {
                wake(cpu);
            }
        }
    }

    #[inline]
    fn state(&self, cpu: usize) -> &AtomicU32 {
        &self.gates[cpu].state
    }
}

/// How the epoch names a CPU.
#[inline]
fn name(cpu: usize) -> u64 {
    cpu as u64 + 1
}

/// Whether this is one of the states that nobody but the end leads out of.
#[inline]
fn is_held(state: u32) -> bool {
    matches!(state, STOPPED | TAKEN | KNOCKED)
}

#[cfg(test)]
#[path = "tests/world.rs"]
mod tests;
