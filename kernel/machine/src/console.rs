//! The console: the first serial port and the screen, one line at a time.
//!
//! One lock keeps the text of one call together. It ranks last: whoever holds it takes no other lock, so that
//! any code may print. It guards lines and nothing else: the devices bear writers that do not hold it
//! ([`crate::serial`], [`crate::screen`]). So nobody has to wait for it for ever: a writer writes without it when this very CPU
//! holds it (what it formats prints, or it was interrupted), or when it has waited too long for a CPU that is frozen. The report of a
//! disaster comes out, at worst in the middle of a line.
//!
//! Whoever ends the machine without a report closes the console first and stops the other CPUs then, so that no line is cut off. A flag
//! keeps others from beginning lines; the lock, which is never released again, keeps out those who have not seen the flag.

use core::fmt::{self, Write as _};
use core::mem::ManuallyDrop;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use bootloader_api::info::FrameBuffer;
use spin::{Mutex, MutexGuard, Once};

use crate::irq::IrqGuard;
use crate::percpu;
use crate::screen::{Screen, ScreenError};
use crate::serial::{self, Port};

/// Held while the text of one call is written.
static LINE: Mutex<()> = Mutex::new(());
/// The CPU that holds it, plus one. Relaxed: a CPU looks for its own number, which nobody else stores.
static HOLDER: AtomicU32 = AtomicU32::new(0);
/// Nobody is to begin a line, but for emergencies. Relaxed: who does not see it yet still needs the lock.
static CLOSED: AtomicBool = AtomicBool::new(false);
static SCREEN: Once<Screen> = Once::new();
/// The last emergency found the lock's holder dead: the next ones do not wait for it.
static HOLDER_DEAD: AtomicBool = AtomicBool::new(false);

/// Turns of waiting for the lock in normal life: more than all CPUs together need for a line at 115,200 baud.
const PATIENT: u32 = 1 << 26;
/// Turns of waiting for one line alone, of some 4,000 characters at 115,200 baud.
const ONE_LINE: u32 = 1 << 22;
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

/// Writes the text in one piece; nothing once `exit` has begun. Interrupts of this CPU are off meanwhile; while it waits they
/// are as they were.
///
/// Not for handlers of exceptions and non-maskable interrupts: these use [`emergency_write`].
pub fn write_fmt(args: fmt::Arguments<'_>) {
    if is_closed() {
        // Not to stand in the way of who has closed it.
        return;
    }
    let _line = Line::take(PATIENT);
    if !is_closed() {
        write(args);
    }
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
    let line = Line::take(patience);
    HOLDER_DEAD.store(line.lock.is_none(), Ordering::Relaxed);
    write(args);
}

/// Ends all printing but that of emergencies, for who ends the machine and has nothing more to say.
///
/// A line that has been begun is ended, unless it takes very long or is the caller's own; no other one begins.
/// Interrupts of this CPU are off afterwards; while it waits they are as they were.
pub fn close() {
    CLOSED.store(true, Ordering::Relaxed);
    let _for_good = ManuallyDrop::new(Line::take(ONE_LINE));
}

fn is_closed() -> bool {
    CLOSED.load(Ordering::Relaxed)
}

/// A number of this CPU that is not 0. Interrupts are off.
fn this_cpu() -> u32 {
    percpu::of_this_cpu().id().0 + 1
}

fn write(args: fmt::Arguments<'_>) {
    if Everywhere.write_fmt(args).is_err() {
        // The devices never fail; a formatting function of the caller did.
        put("[text missing: a Display or Debug function failed]\n");
    }
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
                HOLDER.store(this_cpu(), Ordering::Relaxed);
                return Self { lock: Some(lock), _off: off };
            }
            if HOLDER.load(Ordering::Relaxed) == this_cpu() {
                break;
            }
            // Interrupts come back on: a CPU that waits here still answers when the world is stopped.
            drop(off);
            core::hint::spin_loop();
        }
        Self { lock: None, _off: IrqGuard::new() }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.lock.is_some() {
            HOLDER.store(0, Ordering::Relaxed);
        }
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
