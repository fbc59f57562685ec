//! The console: the first serial port and the screen, one line at a time.
//!
//! One lock keeps the text of one call together. It ranks last: whoever holds it takes no other lock, so that
//! any code may print. It guards lines and nothing else: the devices bear writers that do not hold it
//! ([`crate::serial`], [`crate::screen`]). So nobody has to wait for it for ever, and a writer that has
//! waited too long for a holder that cannot go on (it was interrupted on this very CPU, or its CPU is
//! frozen) writes without it. The report of a disaster comes out, at worst in the middle of a line.

use core::fmt::{self, Write as _};
use core::mem::ManuallyDrop;
use core::sync::atomic::{AtomicBool, Ordering};

use bootloader_api::info::FrameBuffer;
use spin::{Mutex, MutexGuard, Once};

use crate::irq::IrqGuard;
use crate::screen::{Screen, ScreenError};
use crate::serial::{self, Port};

/// Held while the text of one call is written.
static LINE: Mutex<()> = Mutex::new(());
static SCREEN: Once<Screen> = Once::new();
/// The last emergency found the lock's holder dead: the next ones do not wait for it.
static HOLDER_DEAD: AtomicBool = AtomicBool::new(false);

/// Turns of waiting for the lock in normal life: more than all CPUs together need for a line at 115,200 baud.
const PATIENT: u32 = 1 << 26;
/// Turns of waiting in an emergency, enough for a living holder to end its line: some 20 ms on a board, and ten
/// times that in an emulator.
const URGENT: u32 = 1 << 18;

/// Finds the two serial ports. Returns whether each is there: first the console's, then the second one.
pub fn init_serial() -> (bool, bool) {
    (serial::init(Port::Com1), serial::init(Port::Com2))
}

/// Clears the screen and shows all later text on it as well. The first screen stays.
///
/// The framebuffer's memory must stay mapped where it is, in every address space that prints.
pub fn attach_screen(frame_buffer: FrameBuffer) -> Result<&'static Screen, ScreenError> {
    SCREEN.try_call_once(|| {
        let info = frame_buffer.info();
        Screen::new(frame_buffer.into_buffer(), info)
    })
}

/// Writes the text in one piece. Interrupts of this CPU are off meanwhile; while it waits they are as they were.
///
/// Not for handlers of exceptions and non-maskable interrupts: these use [`emergency_write`].
pub fn write_fmt(args: fmt::Arguments<'_>) {
    write(args, PATIENT);
}

/// Sends one byte by a serial port, if that needs no wait; says whether it has.
///
/// Between lines, so that no text overtakes it into the last free place of the UART.
pub fn try_send(port: Port, byte: u8) -> bool {
    let off = IrqGuard::new();
    let sent = LINE.try_lock().is_some_and(|_line| serial::try_send(port, byte));
    drop(off);
    sent
}

/// Writes the text even when the code that this CPU (or a frozen one) was interrupted in is just printing.
pub fn emergency_write(args: fmt::Arguments<'_>) {
    // Relaxed: a hint; a stale value costs one more wait or one mixed line.
    let patience = if HOLDER_DEAD.load(Ordering::Relaxed) { 1 } else { URGENT };
    let locked = write(args, patience);
    HOLDER_DEAD.store(!locked, Ordering::Relaxed);
}

/// Ends all printing, for who ends the machine and has nothing more to say: waits for a line that has been begun, and no other
/// one begins.
///
/// Interrupts of this CPU are off afterwards; while it waits they are as they were.
pub fn close() {
    let _for_good = ManuallyDrop::new(Line::take(PATIENT));
}

/// Returns whether the lock was held.
fn write(args: fmt::Arguments<'_>, patience: u32) -> bool {
    let line = Line::take(patience);
    if Everywhere.write_fmt(args).is_err() {
        // The devices never fail; a formatting function of the caller did.
        put("[text missing: a Display or Debug function failed]\n");
    }
    line.lock.is_some()
}

/// The lock, if it could be had, with interrupts off.
struct Line {
    // The lock goes first: an interrupt between the two would find it held on its own CPU.
    lock: Option<MutexGuard<'static, ()>>,
    _off: IrqGuard,
}

impl Line {
    fn take(patience: u32) -> Self {
        for _ in 0..patience {
            let off = IrqGuard::new();
            if let Some(lock) = LINE.try_lock() {
                return Self { lock: Some(lock), _off: off };
            }
            // Interrupts come back on: a CPU that waits here still answers when the world is stopped.
            drop(off);
            core::hint::spin_loop();
        }
        Self { lock: None, _off: IrqGuard::new() }
    }
}

/// All devices of the console.
struct Everywhere;

impl fmt::Write for Everywhere {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        put(text);
        Ok(())
    }
}

fn put(text: &str) {
    serial::write_text(Port::Com1, text);
    if let Some(screen) = SCREEN.get() {
        screen.write_text(text);
    }
}
