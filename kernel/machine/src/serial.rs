//! The serial ports COM1 and COM2.
//!
//! Nothing here holds a lock or Rust state that two writers could tear: a driver handle is made for each
//! write, and what must be remembered is atomic. So a CPU that reports its own death may write while another
//! one is in the middle of a line; only the text mixes. [`crate::console`] keeps lines whole in normal life.
//!
//! No wait is without end. A board without a UART answers all ones and is found absent; a UART that never
//! gets ready (a stuck line, a chip that is half there) costs one wait of `READY_POLLS` reads, and from
//! then on bytes are dropped without waiting until it is ready again.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use uart_16550::backend::Backend;
use uart_16550::spec::FIFO_SIZE;
use uart_16550::spec::registers::{FifoTriggerLevel, IER, LSR, MCR, offsets};
use uart_16550::{BaudRate, Config, Uart16550};
use x86_64::instructions::port::Port as IoPort;

/// Reads of the line status register before a port counts as stuck.
///
/// A full FIFO drains in 1.4 ms at 115,200 baud. A read takes about 1 µs on a board and 0.1 µs in an
/// emulator, whose reader may sleep for tens of milliseconds.
const READY_POLLS: u32 = 1 << 21;

/// The modem control register.
#[expect(clippy::cast_possible_truncation, reason = "registers have numbers up to 7")]
const MODEM_CONTROL: u8 = offsets::MCR as u8;
/// The line status register.
#[expect(clippy::cast_possible_truncation, reason = "registers have numbers up to 7")]
const LINE_STATUS: u8 = offsets::LSR as u8;

/// A serial port at its customary address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// The console.
    Com1,
    /// Free for dumps and data.
    Com2,
}

/// It interrupts when four bytes have come, which leaves room for twelve, 1 ms; or after a pause.
const CONFIG: Config = Config {
    baud_rate: BaudRate::Baud115200,
    fifo_trigger_level: Some(FifoTriggerLevel::Four),
    ..Config::DEFAULT
};

/// What is remembered about one port.
struct State {
    base: u16,
    present: AtomicBool,
    has_fifo: AtomicBool,
    /// Reads since the port was last seen ready.
    polls: AtomicU32,
    /// Waits that ended without it being ready: bytes were lost.
    given_up: AtomicU32,
    /// Times that a byte came in and found no room.
    overruns: AtomicU32,
}

impl State {
    const fn new(base: u16) -> Self {
        Self {
            base,
            present: AtomicBool::new(false),
            has_fifo: AtomicBool::new(false),
            polls: AtomicU32::new(0),
            given_up: AtomicU32::new(0),
            overruns: AtomicU32::new(0),
        }
    }
}

static COM1: State = State::new(0x3f8);
static COM2: State = State::new(0x2f8);

impl Port {
    fn state(self) -> &'static State {
        match self {
            Self::Com1 => &COM1,
            Self::Com2 => &COM2,
        }
    }

    /// Its customary ISA interrupt.
    pub const fn irq(self) -> u8 {
        match self {
            Self::Com1 => 4,
            Self::Com2 => 3,
        }
    }
}

/// Port access that ends every wait of the driver, and sees every overrun: reading the line status clears the bit.
///
/// The driver waits by reading the line status until a bit is set. After `READY_POLLS` reads in a row
/// without it the port is said to be ready: the driver goes on and what it sends is lost.
#[derive(Debug)]
struct Bounded {
    base: u16,
    polls: &'static AtomicU32,
    given_up: &'static AtomicU32,
    overruns: &'static AtomicU32,
}

impl Bounded {
    fn bound(&self, status: u8) -> u8 {
        let line = LSR::from_bits_retain(status);
        // All ones: there is no UART.
        if line.contains(LSR::OVERRUN_ERROR) && status != u8::MAX {
            self.overruns.fetch_add(1, Ordering::Relaxed);
        }
        // Relaxed: a counter of its own; a lost update makes one wait longer.
        if line.contains(LSR::THR_EMPTY) {
            self.polls.store(0, Ordering::Relaxed);
        } else if self.polls.load(Ordering::Relaxed) < READY_POLLS {
            self.polls.fetch_add(1, Ordering::Relaxed);
            return status;
        } else {
            self.given_up.fetch_add(1, Ordering::Relaxed);
        }
        // The transmitter may still shift out its last byte, which disturbs nothing.
        status | (LSR::THR_EMPTY | LSR::TRANSMITTER_EMPTY).bits()
    }
}

impl Backend for Bounded {
    unsafe fn read(&mut self, register_offset: u8) -> u8 {
        // SAFETY: a UART's register (the caller's contract), or a port where nothing is: it reads as ones.
        let value = unsafe { IoPort::new(self.base + u16::from(register_offset)).read() };
        if register_offset == LINE_STATUS { self.bound(value) } else { value }
    }

    unsafe fn write(&mut self, register_offset: u8, value: u8) {
        // SAFETY: a UART's register (the caller's contract), or a port where nothing is: the write is ignored.
        unsafe { IoPort::new(self.base + u16::from(register_offset)).write(value) }
    }
}

/// A driver handle; cheap, and without memory of its own.
fn uart(state: &'static State) -> Uart16550<Bounded> {
    // SAFETY: 0x3f8 and 0x2f8 are the PC's serial ports or nothing at all. Two handles for one UART at a time
    // can mix bytes, which the module allows.
    unsafe {
        Uart16550::new_with_backend(Bounded {
            base: state.base,
            polls: &state.polls,
            given_up: &state.given_up,
            overruns: &state.overruns,
        })
    }
}

/// Finds the port and sets it to 115,200 baud, 8 data bits, no parity, one stop bit.
///
/// Returns whether a UART is there. Without one, later writes do nothing. There is no loopback test: the
/// driver's waits for the looped byte without end.
pub fn init(port: Port) -> bool {
    let state = port.state();
    let mut uart = uart(state);
    // The driver checks presence first (a scratch register that keeps what is written).
    let found = uart.init(CONFIG).is_ok();
    // Relaxed, then Release: pairs with the Acquire load in `write_bytes`.
    state.has_fifo.store(uart.fifo_enabled(), Ordering::Relaxed);
    state.present.store(found, Ordering::Release);
    found
}

/// Whether [`init`] has found a UART there.
pub fn is_present(port: Port) -> bool {
    // Acquire: as in `write_bytes`.
    port.state().present.load(Ordering::Acquire)
}

/// Sends the bytes as they are, and says whether the port has taken them all. Does nothing before [`init`] or when there is
/// no UART.
///
/// Takes no lock: see the head of this file.
pub fn write_bytes(port: Port, bytes: &[u8]) -> bool {
    let state = port.state();
    // Acquire: pairs with the Release store in `init`; the UART is set up and `has_fifo` is known.
    if !state.present.load(Ordering::Acquire) {
        return false;
    }
    // Relaxed, both: one who writes at the same time may make this one believe in a loss.
    let before = state.given_up.load(Ordering::Relaxed);
    let mut uart = uart(state);
    // A fresh handle believes in a FIFO; a chip without one gets its bytes one at a time.
    let chunk = if state.has_fifo.load(Ordering::Relaxed) { FIFO_SIZE } else { 1 };
    for part in bytes.chunks(chunk) {
        uart.send_bytes_exact(part);
    }
    state.given_up.load(Ordering::Relaxed) == before
}

/// Waits, for `READY_POLLS` reads at most, until the UART has sent all that it was given; not at all for one that is stuck.
pub fn drain(port: Port) {
    let state = port.state();
    // Relaxed: a hint; whoever writes beside this changes it.
    if !is_present(port) || state.polls.load(Ordering::Relaxed) >= READY_POLLS {
        return;
    }
    let line_status = state.base + u16::from(LINE_STATUS);
    // Not by the driver, to which every byte counts as sent once there is room for the next.
    let is_empty = || {
        // SAFETY: the register of a UART that `init` has found. Reading it forgets an overrun, which nobody will ask for.
        let status: u8 = unsafe { IoPort::new(line_status).read() };
        LSR::from_bits_retain(status).contains(LSR::TRANSMITTER_EMPTY)
    };
    (0..READY_POLLS).find(|_| is_empty());
}

/// Whether a byte has come in and was not taken.
pub fn is_waiting(port: Port) -> bool {
    uart(port.state()).ready_to_receive().is_ok()
}

/// Takes a byte that has come in. For one caller at a time.
pub fn receive(port: Port) -> Option<u8> {
    uart(port.state()).try_receive_byte().ok()
}

/// Sends a byte if that needs no wait, and says whether it has. As little locked as [`write_bytes`].
pub fn try_send(port: Port, byte: u8) -> bool {
    uart(port.state()).try_send_byte(byte).is_ok()
}

/// Throws away what has come in, and forgets overruns.
pub fn discard(port: Port) {
    // One more than there is room for: a byte may be on its way.
    (0..=FIFO_SIZE).find(|_| receive(port).is_none());
    port.state().overruns.store(0, Ordering::Relaxed);
}

/// Makes the port interrupt while bytes are there, those that are there already included. The line that the interrupt takes is
/// set up before ([`crate::ioapic`]).
pub fn enable_receive_interrupts(port: Port) {
    uart(port.state()).enable_interrupts(IER::DATA_READY);
}

/// Stops that.
pub fn disable_receive_interrupts(port: Port) {
    uart(port.state()).disable_interrupts(IER::DATA_READY);
}

/// Times that bytes came in and found the port full: each lost at least one.
pub fn overruns(port: Port) -> u32 {
    // Relaxed: a count.
    port.state().overruns.load(Ordering::Relaxed)
}

/// Sends bytes to the port itself, which receives them; for tests. What others write meanwhile goes the same way.
pub fn loop_back(port: Port, bytes: &[u8]) {
    let mut uart = uart(port.state());
    let modem = uart.mcr();
    let looped = modem | MCR::LOOP_BACK;
    // SAFETY: the register of a UART that `init` has found; its other bits stay as they are.
    unsafe { uart.backend_mut().write(MODEM_CONTROL, looped.bits()) };
    write_bytes(port, bytes);
    // SAFETY: as above.
    unsafe { uart.backend_mut().write(MODEM_CONTROL, modem.bits()) };
}

/// Sends text for a terminal: each `\n` becomes `\r\n`.
pub fn write_text(port: Port, text: &str) {
    for piece in text.split_inclusive('\n') {
        match piece.strip_suffix('\n') {
            Some(line) => {
                write_bytes(port, line.as_bytes());
                write_bytes(port, b"\r\n");
            }
            None => drop(write_bytes(port, piece.as_bytes())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{AtomicU32, Bounded, LSR, READY_POLLS};
    use alloc::boxed::Box;
    use core::sync::atomic::Ordering;

    /// A port with counters of its own: tests run side by side.
    fn port() -> Bounded {
        let counter = || &*Box::leak(Box::new(AtomicU32::new(0)));
        Bounded { base: 0x3f8, polls: counter(), given_up: counter(), overruns: counter() }
    }

    #[test]
    fn an_overrun_is_counted_by_whoever_reads_the_line_status() {
        let status = (LSR::OVERRUN_ERROR | LSR::DATA_READY | LSR::THR_EMPTY).bits();
        let bounded = port();
        assert_eq!(bounded.bound(status) & !LSR::TRANSMITTER_EMPTY.bits(), status);
        bounded.bound(u8::MAX);
        assert_eq!(bounded.overruns.load(Ordering::Relaxed), 1, "a port without UART reads as all ones");
    }

    #[test]
    fn a_stuck_port_costs_one_wait_and_recovers() {
        let bounded = port();
        let ready = (LSR::THR_EMPTY | LSR::TRANSMITTER_EMPTY).bits();
        let waits = (0..=READY_POLLS).take_while(|_| bounded.bound(0) & ready == 0).count();
        assert_eq!(waits, READY_POLLS as usize, "ends, but not early");
        assert_eq!(bounded.bound(0) & ready, ready, "no second wait");
        assert_eq!(bounded.given_up.load(Ordering::Relaxed), 2, "both losses are known");
        bounded.bound(LSR::THR_EMPTY.bits());
        assert_eq!(bounded.polls.load(Ordering::Relaxed), 0);
        assert_eq!(bounded.bound(0) & ready, 0, "waits again after it was ready");
    }
}
