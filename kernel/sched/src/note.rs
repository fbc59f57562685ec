//! The word that one CPU sleeps on.
//!
//! ```text
//!            prepare                 wake (sends the IPI)
//!   EMPTY ────────────► HALTING ─────────────────────────► NOTIFIED
//!     │                                                     ▲  │
//!     └─────────────────────────────────────────────────────┘  │
//!     ▲                 wake (no IPI needed)                   │
//!     └────────────────────── clear ───────────────────────────┘
//! ```
//!
//! (`clear` leads back to EMPTY from every state.)
//!
//! # Why a sleeper is not missed
//!
//! The sleeper, after the last step of [`idle`](crate::idle):
//!
//! 1. turns interrupts off;
//! 2. calls [`Note::prepare`]; if that says no, it turns interrupts on and does not sleep;
//! 3. executes `sti; hlt` as neighbours;
//! 4. when it runs again, for whatever reason: [`Note::clear`], and *then* looks for what it was woken for.
//!
//! The waker publishes what it has, then calls [`Note::wake`] and does what that says.
//!
//! `prepare` and `wake` change one word by read-modify-write, so one is first. If `wake` is, `prepare`
//! finds NOTIFIED and the CPU stays awake. If `prepare` is, `wake` finds HALTING and an interrupt is sent.
//! It can arrive before the `hlt`, and that closes the last window: interrupts are off since step 1, so it
//! stays pending in the CPU's interrupt controller; `sti` takes effect only after the instruction that
//! follows it, and that is the `hlt`, which a pending interrupt ends at once. With any instruction between
//! the two, the handler could run there, and the CPU would sleep after its wake-up. Without step 1, the
//! same could happen between `prepare` and `hlt`.
//!
//! An interrupt is sent only to a CPU that said that it sleeps. To a running one it would be a loss of
//! time; that one finds NOTIFIED when it next wants to sleep, and looks for work once more.
//!
//! A wake that comes when the CPU runs again for another reason leaves NOTIFIED behind, or an interrupt
//! without a purpose. Either costs one more look at the queues. The opposite order in step 4, look and then
//! clear, would forget a wake that came between the two.

use crate::sync::{AtomicU32, Ordering};

/// The CPU is awake and nothing has happened.
const EMPTY: u32 = 0;
/// The CPU sleeps, or its next instructions are `sti; hlt`.
const HALTING: u32 = 1;
/// Somebody has called `wake` since the last `clear`.
const NOTIFIED: u32 = 2;

/// What a waker must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum WakeAction {
    /// Send the wake interrupt to the note's CPU: it sleeps.
    SendIpi,
    /// Nothing: the CPU is awake and will find the note, or somebody else has sent the interrupt.
    Nothing,
}

/// One CPU's sleep word.
#[derive(Debug)]
pub struct Note(AtomicU32);

impl Default for Note {
    fn default() -> Self {
        Self::new()
    }
}

impl Note {
    /// A note of a CPU that is awake.
    pub fn new() -> Self {
        Self(AtomicU32::new(EMPTY))
    }

    /// The sleeper's step 2, with interrupts off. True: sleep. False: the note is set already, do not sleep.
    #[must_use = "a CPU that was notified must not halt"]
    pub fn prepare(&self) -> bool {
        // Acquire pairs with the Release of `wake`: who does not sleep sees what the waker published.
        match self.0.compare_exchange(EMPTY, HALTING, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            // Asked again after an interrupt that was none of ours.
            Err(found) => found == HALTING,
        }
    }

    /// Sets the note, from any CPU.
    pub fn wake(&self) -> WakeAction {
        // Release pairs with the Acquire of `prepare` and `clear`: what was published comes first.
        if self.0.swap(NOTIFIED, Ordering::AcqRel) == HALTING {
            WakeAction::SendIpi
        } else {
            WakeAction::Nothing
        }
    }

    /// Whether somebody has called `wake` since the last `clear`: a look, for who waits a moment before it sleeps.
    pub fn is_set(&self) -> bool {
        // Acquire pairs with the Release of `wake`, as in `prepare`.
        self.0.load(Ordering::Acquire) == NOTIFIED
    }

    /// The sleeper's step 4. Says whether the note was set; a CPU may run again for other reasons.
    pub fn clear(&self) -> bool {
        // Acquire pairs with the Release of `wake`: what the waker published is visible to the look that
        // follows.
        self.0.swap(EMPTY, Ordering::AcqRel) == NOTIFIED
    }
}

#[cfg(test)]
mod tests {
    use super::{Note, WakeAction};

    #[test]
    fn only_a_halting_cpu_gets_an_interrupt_and_only_one() {
        let note = Note::new();
        assert!(note.prepare());
        assert_eq!(note.wake(), WakeAction::SendIpi);
        assert_eq!(note.wake(), WakeAction::Nothing);
        assert!(note.clear());
        assert!(!note.clear());
    }

    #[test]
    fn a_wake_before_the_sleep_prevents_it() {
        let note = Note::new();
        assert_eq!(note.wake(), WakeAction::Nothing);
        assert!(!note.prepare());
        assert!(!note.prepare(), "the note stays set until it is cleared");
        assert!(note.clear());
        assert!(note.prepare());
    }

    #[test]
    fn a_cpu_may_go_back_to_sleep_after_a_foreign_interrupt() {
        let note = Note::new();
        assert!(note.prepare());
        assert!(note.prepare());
        assert_eq!(note.wake(), WakeAction::SendIpi);
    }
}
