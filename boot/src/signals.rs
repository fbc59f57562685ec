//! Turns ^C, SIGTERM and SIGHUP into a flag, so that the run can end QEMU and remove its files by itself.

use core::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Catches the signals from now on. Without a handler (another one is set) they end the process at once.
pub fn catch() {
    // Relaxed: a lone flag that guards no other data; pairs with the load in `interrupted`.
    let caught = ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed));
    if let Err(error) = caught {
        eprintln!("boot: cannot catch ^C ({error}); QEMU may outlive it");
    }
}

/// Whether a signal came.
pub fn interrupted() -> bool {
    // Relaxed: pairs with the handler's store, and nothing is read on the strength of it.
    INTERRUPTED.load(Ordering::Relaxed)
}
