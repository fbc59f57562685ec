//! The decisions of gzero's scheduler.
//!
//! # The model
//!
//! A **G** is a goroutine: a stack and the place where it goes on. A **P** is the right to run goroutines; a
//! machine has as many as `gomaxprocs` says, and a CPU that holds one takes goroutines from the P's
//! queue and runs them, one after the other. (Go's third letter, M, is here the CPU itself.)
//!
//! ```text
//!     goroutine table (table)            global queue (global)        free lists (free_list)
//!     ┌───┬───┬───┬───┬───┬──            G → G → G → G                G → G → G
//!     │ G │ G │ G │ G │ G │ …               │    ▲ overflow              │   ▲
//!     └───┴───┴───┴───┴───┴──    fair share │    │                refill │   │ spill
//!                                           ▼    │                       ▼   │
//!     P0 (processor)   run-next: G   ring: G G G G G   free: G G G   ids   counters
//!     P1 (processor)   run-next: -   ring: G G         free: G       ids   counters
//!     P2 (processor)   run-next: -   ring: (empty)     spins: steals half of P0's ring
//!     P3 (processor)   idle (idle), its CPU sleeps on its note (note)
//! ```
//!
//! A runnable goroutine is in exactly one queue. Whoever takes it out owns its stack until it is put into
//! another, parks, or exits; [`status`] is the machine that enforces this.
//!
//! # The rule: decide, never do
//!
//! Nothing here switches a stack, sends an interrupt, halts, takes a lock, or asks the time. Functions take
//! what they need as arguments and return what must now be done as values that may not be dropped:
//! [`Ready::Enqueue`](status::Ready), [`WakeAction::SendIpi`](note::WakeAction),
//! [`Parked::MustEnqueue`](status::Parked), [`Picked`](pick::Picked). The kernel matches on them and acts.
//! So all of it runs, and is tested, on any machine: with threads for CPUs, with random operations against
//! a model, and under a model checker that tries every order of every access ([`sync`]).
//!
//! Goroutines and Ps are indices ([`id`]), never pointers; the crate is free of `unsafe` and of statics. One
//! structure made of its parts is shared by all CPUs. What belongs to the holder of a P is reached through
//! an [`Owner`], which does not leave its CPU. Hot paths allocate nothing and take
//! no lock. The global queue is a plain structure that the kernel locks; the shared free lists have no lock.
//!
//! # The loop of a CPU
//!
//! ```
//! # use sched::{GoIndex, idle::{Idle, Left, Spin, Spinner}, link::Linked, note::Note, pick, processor::Owner};
//! # use sched::pick::{Global, Picked, Sources};
//! /// The next goroutine for this CPU; `None` when all of them sleep for ever.
//! fn schedule<L: Linked<Index = GoIndex>, G: Global>(
//!     me: Owner<'_>,
//!     sources: &Sources<'_, L, G>,
//!     idle: &Idle,
//!     notes: &[Note],
//!     halt: impl Fn(&Note),
//!     send_ipi: impl Fn(sched::ProcId),
//! ) -> Option<Picked> {
//!     let mut spin = Spin::No;
//!     loop {
//!         let mut picked = pick::next_local(me, sources);
//!         if picked.is_none() {
//!             if spin == Spin::No {
//!                 spin = idle.try_spin();
//!             }
//!             if spin == Spin::Yes {
//!                 picked = pick::find_work(me, sources);
//!             }
//!         }
//!         if let Some(picked) = picked {
//!             // The last spinner passes its duty on, then runs what it found.
//!             if spin == Spin::Yes
//!                 && idle.stop_spinning() == Spinner::Last
//!                 && let Some(p) = idle.wake_one()
//!                 && notes[p.index()].wake() == sched::note::WakeAction::SendIpi
//!             {
//!                 send_ipi(p);
//!             }
//!             return Some(picked);
//!         }
//!         idle.go_idle(me.id(), spin);
//!         if !pick::recheck(sources) {
//!             if idle.all_idle() && !pick::recheck(sources) {
//!                 return None;
//!             }
//!             // Interrupts off; `prepare`, and if it says so, `sti; hlt`.
//!             halt(&notes[me.id().index()]);
//!             notes[me.id().index()].clear();
//!         }
//!         // Its own doing or a waker's: it is counted as spinning now.
//!         let (Left::TookBack | Left::Claimed) = idle.leave_idle(me.id());
//!         spin = Spin::Yes;
//!     }
//! }
//! # use sched::{GoidGenerator, ProcId, processor::Processor, table::Table, global::GlobalQueue};
//! # use sched::list::SharedLen;
//! # struct Locked(std::sync::Mutex<GlobalQueue>, SharedLen);
//! # impl Global for Locked {
//! #     fn with<R>(&self, _: usize, f: impl FnOnce(&mut GlobalQueue) -> R) -> R { f(&mut self.0.lock().unwrap()) }
//! #     fn length(&self, _: usize) -> &SharedLen { &self.1 }
//! # }
//! # let table = Table::new(1000).unwrap();
//! # let range = table.grow(|_| ()).unwrap();
//! # let (queue, len) = GlobalQueue::new();
//! # let global = Locked(std::sync::Mutex::new(queue), len);
//! # let processors = [Processor::new(ProcId::new(0).unwrap(), 1)];
//! # let (idle, notes) = (Idle::new(1), [Note::new()]);
//! # let sources = Sources { table: &table, processors: &processors, global: &global };
//! # let me = processors[0].owner();
//! # let g = GoIndex::new(range.start).unwrap();
//! # table.slot(g).status().spawn().unwrap();
//! # pick::enqueue(me, &sources, g, pick::Place::Next);
//! # let picked = schedule(me, &sources, &idle, &notes, |_| panic!("halts"), |_| ()).unwrap();
//! # assert_eq!(picked.g, g);
//! # assert!(schedule(me, &sources, &idle, &notes, |_| panic!("halts"), |_| ()).is_none());
//! ```
//!
//! # Reading order
//!
//! Each module imports only those above it.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod sync;

pub mod id;
pub mod link;
mod transition;

pub mod status;

pub mod chunks;
pub mod table;

pub mod list;

pub mod global;
pub mod runq;

pub mod claim;
pub mod join;
pub mod keep;
pub mod latch;

pub mod input;

pub mod sudog;

pub mod waiters;

pub mod notify;
pub mod weighted;

pub mod counters;
pub mod free;
pub mod free_list;
pub mod processor;

pub mod idle;
pub mod note;

pub mod deadlock;

pub mod pick;
pub mod slice;

mod treap;

pub mod sema;

mod glance;

pub mod chan;

pub mod mutex;
pub mod once;
pub mod rwmutex;
pub mod waitgroup;

pub mod blocked;

pub mod histogram;
mod slab;
pub mod timer;
pub mod timers;
pub mod world;

pub use id::{GOID_BATCH, GoIndex, GoRef, Goid, GoidGenerator, MAX_PROCS, ProcId, SudogIndex};
pub use processor::{Owner, Processor};
pub use status::{BadTransition, Parked, Ready, Status};
