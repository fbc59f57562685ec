//! What comes in at the serial ports: from the interrupt to the goroutine that waits for it.
//!
//! 1. The handler, on the boot CPU, empties the UART into a ring ([`sched::input`]) and leaves a request.
//! 2. The interrupted code answers it ([`arrived`]) at the first instant at which it may ready somebody: it releases a
//!    semaphore of one unit, which says *look again*.
//! 3. The goroutine whose turn it is to read takes what there is; if that is nothing it takes the unit, or waits for it, and looks
//!    again.
//!
//! [`sched::input`] argues that no reader waits beside a byte.
//!
//! A goroutine that waits here is one that a device may wake ([`sched::deadlock`]), and no deadlock; those that wait for their turn
//! to read wait for it.
//!
//! # Flow
//!
//! A port asks for bytes when it is opened (XON), and before its ring is full it asks the other side to stop (XOFF), if that
//! listens. One at a time looks at the ring and sends, under a lock, and whoever has made room looks afterwards: so what was sent
//! last is what holds. If the ring gets full all the same the UART keeps what it has, sixteen bytes, and loses what comes after it
//! ([`machine::serial::overruns`]); emulators hold the rest back instead.

use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use machine::clock;
use machine::console;
use machine::idt;
use machine::ioapic::{self, RouteError};
use machine::lock::{Lock, Rank};
use machine::percpu::Pinned;
use machine::serial::{self, Port};
use machine::vector::Vector;
use sched::input::{Device, Input};
use sched::sema::{Handoff, Order};
use spin::Once;

use crate::m::{self, ask};
use crate::park::{Wait, WaitReason};
use crate::sema::{acquire, semrelease, semrelease1, try_semacquire};
use crate::stacks::OwnStack;
use crate::sysmon;

/// Bytes of a ring.
const CAPACITY: u32 = 4096;
/// The other side is asked to stop when so many are in it, …
const HIGH: u32 = CAPACITY / 4 * 3;
/// … and to go on when no more are left.
const LOW: u32 = CAPACITY / 4;

/// "Device control 1": go on. ASCII.
const XON: u8 = 0x11;
/// "Device control 3": stop.
const XOFF: u8 = 0x13;

/// What the other side was asked for last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Go,
    Stop,
}

/// What the last byte that was read means to a reader of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Line {
    /// Nothing.
    Begins,
    /// It was a carriage return: a line feed behind it belongs to it.
    AfterReturn,
    /// It was the last of a piece: what ends the line is still to come.
    Cut,
}

/// A port as readers see it.
#[derive(Debug)]
pub(crate) struct Source {
    port: Port,
    vector: Vector,
    /// Made when the port is opened: the ring, or why the port cannot interrupt.
    ring: Once<Result<Input, RouteError>>,
    /// Its interrupts are on, and the other side was asked to begin.
    begun: AtomicBool,
    /// A semaphore: whether something has come since the reader last looked.
    arrived: AtomicU32,
    /// A semaphore: the turn to read.
    turn: AtomicU32,
    flow: Lock<Flow>,
    /// What the reader of lines has to remember. For who has the turn.
    line: AtomicU8,
}

impl Source {
    const fn new(port: Port, vector: Vector) -> Self {
        Self {
            port,
            vector,
            ring: Once::new(),
            begun: AtomicBool::new(false),
            arrived: AtomicU32::new(0),
            turn: AtomicU32::new(1),
            flow: Lock::new(Rank::Leaf, Flow::Stop),
            line: AtomicU8::new(Line::Begins as u8),
        }
    }
}

static COM1: Source = Source::new(Port::Com1, Vector::COM1);
static COM2: Source = Source::new(Port::Com2, Vector::COM2);

/// The source of a port.
pub(crate) fn of(port: Port) -> &'static Source {
    match port {
        Port::Com1 => &COM1,
        Port::Com2 => &COM2,
    }
}

impl Device for &Source {
    fn receive(&self) -> Option<u8> {
        serial::receive(self.port)
    }

    fn enable_interrupts(&self) {
        serial::enable_receive_interrupts(self.port);
    }

    fn disable_interrupts(&self) {
        serial::disable_receive_interrupts(self.port);
    }
}

/// Step 1.
fn interrupt(source: &'static Source) {
    let Some((ring, m)) = source.ring().zip(m::of_this_cpu()) else { return };
    ring.fill(&source);
    sysmon::ask_even_asleep(m, ask::INPUT);
}

/// Step 2. On any stack but that of a handler, with interrupts on.
pub(crate) fn arrived() {
    for source in [&COM1, &COM2] {
        let Some(ring) = source.ring() else { continue };
        if ring.owes_unit(&source.arrived) {
            semrelease(&source.arrived);
        }
        // If there is no room for it now, the next bytes bring it here again.
        let (Sent::Yes | Sent::NoRoom) = source.try_control(ring);
    }
}

/// Whether what had to be sent was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    Yes,
    NoRoom,
}

/// The turn to read; others wait until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    source: &'static Source,
    ring: &'static Input,
}

impl Drop for Turn {
    fn drop(&mut self) {
        // To who waits: one that reads on would be faster for ever.
        semrelease1(&self.source.turn, Handoff::Yes);
    }
}

impl Source {
    /// The ring, if the port is open.
    fn ring(&self) -> Option<&Input> {
        self.ring.get()?.as_ref().ok()
    }

    /// Lets the port interrupt, and asks for bytes; the first time. What has come before goes.
    ///
    /// # Errors
    /// When it cannot interrupt.
    pub(crate) fn open(&self) -> Result<&Input, RouteError> {
        // Others spin meanwhile, so nobody takes the CPU away.
        let pinned = Pinned::new();
        let ring = self.ring.call_once(|| self.route().map(|()| Input::new(CAPACITY)));
        drop(pinned);
        let ring = ring.as_ref().map_err(|why| *why)?;
        // Relaxed: only one does it, who has the ring, and so has its handler.
        if !self.begun.swap(true, Ordering::Relaxed) {
            serial::discard(self.port);
            self.control(ring);
            serial::enable_receive_interrupts(self.port);
        }
        Ok(ring)
    }

    /// Asks the other side to stop or to go on, if it is time for that. Waits for the port, which is bounded if that is
    /// stuck.
    fn control(&self, ring: &Input) {
        while self.try_control(ring) == Sent::NoRoom {
            spin_loop();
        }
    }

    /// The same without waiting.
    fn try_control(&self, ring: &Input) -> Sent {
        let mut flow = self.flow.lock();
        let (byte, next) = match *flow {
            Flow::Go if ring.len() >= HIGH => (XOFF, Flow::Stop),
            Flow::Stop if ring.len() <= LOW => (XON, Flow::Go),
            Flow::Go | Flow::Stop => return Sent::Yes,
        };
        if !console::try_send(self.port, byte) {
            return Sent::NoRoom;
        }
        *flow = next;
        Sent::Yes
    }

    fn route(&self) -> Result<(), RouteError> {
        let handler: idt::Handler = match self.port {
            Port::Com1 => |_| interrupt(&COM1),
            Port::Com2 => |_| interrupt(&COM2),
        };
        idt::register(self.vector, handler);
        ioapic::route_serial(self.port, self.vector, m::runtime().ms[0].block.apic_id())
    }

    /// Waits for the turn to read. On the goroutine's own stack.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn take_turn(&'static self, own: OwnStack) -> Result<Turn, RouteError> {
        let ring = self.open()?;
        acquire(own, &self.turn, Order::Fifo, self.wait(WaitReason::Semacquire));
        Ok(Turn { source: self, ring })
    }

    /// The turn to read, if nobody has it. Does not wait.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn try_take_turn(&'static self) -> Result<Option<Turn>, RouteError> {
        let ring = self.open()?;
        Ok(try_semacquire(&self.turn).then(|| Turn { source: self, ring }))
    }

    /// Times that bytes found the port full.
    pub(crate) fn overruns(&self) -> u32 {
        serial::overruns(self.port)
    }

    fn wait(&self, reason: WaitReason) -> Wait {
        Wait { reason, on: core::ptr::from_ref(self).addr() as u64, since: clock::rdtsc_unordered() }
    }
}

impl Turn {
    /// Says what a byte means to the reader of lines, and what the one before did.
    pub(crate) fn set_line(&self, line: Line) -> Line {
        // Relaxed: who has the turn is alone.
        let before = self.source.line.swap(line as u8, Ordering::Relaxed);
        [Line::AfterReturn, Line::Cut].into_iter().find(|line| *line as u8 == before).unwrap_or(Line::Begins)
    }

    /// [`try_read`](Self::try_read) for a reader of bytes: what a line's reader remembers is over.
    pub(crate) fn try_read_bytes(&self, into: &mut [u8]) -> usize {
        self.not_lines(self.try_read(into))
    }

    /// [`read`](Self::read) for a reader of bytes.
    pub(crate) fn read_bytes(&self, own: OwnStack, into: &mut [u8]) -> usize {
        self.not_lines(self.read(own, into))
    }

    fn not_lines(&self, count: usize) -> usize {
        if count > 0 {
            self.set_line(Line::Begins);
        }
        count
    }

    /// Takes what has come, as much as fits.
    pub(crate) fn try_read(&self, into: &mut [u8]) -> usize {
        let count = self.ring.take(&self.source, into);
        self.source.control(self.ring);
        count
    }

    /// Takes what has come, and waits until something has. Nothing only if nothing fits. On the goroutine's own stack.
    pub(crate) fn read(&self, own: OwnStack, into: &mut [u8]) -> usize {
        loop {
            let count = self.try_read(into);
            if count > 0 || into.is_empty() {
                return count;
            }
            let awake = &m::runtime().awake;
            awake.begin_device_wait();
            acquire(own, &self.source.arrived, Order::Fifo, self.source.wait(WaitReason::Device));
            awake.end_device_wait();
        }
    }
}
