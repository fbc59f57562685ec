//! The states of a goroutine, the arrows between them, and what is said of an arrow that does not lead from where somebody wants to
//! take it. [`status`](crate::status) has the diagram.

use core::fmt;
use core::num::NonZeroU64;

/// Where a goroutine is in its life; [`status`](crate::status) says what each means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Status {
    /// No goroutine: the slot is free or being prepared.
    Dead = 0,
    /// In exactly one run queue.
    Runnable = 1,
    /// On a CPU.
    Running = 2,
    /// On a CPU, about to leave it; may be woken already.
    Parking = 3,
    /// Woken before it left its CPU, which will enqueue it.
    Woken = 4,
    /// Off its CPU, in no run queue; somebody holds a handle to wake it.
    Waiting = 5,
}

impl Status {
    /// The state in the low byte of a status word.
    pub(crate) fn of(word: u64) -> Self {
        match Self::numbered(word & 0xff) {
            Some(status) => status,
            None => unreachable!("status word holds {}, which is no state", word & 0xff),
        }
    }

    /// The state with a number.
    const fn numbered(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Dead),
            1 => Some(Self::Runnable),
            2 => Some(Self::Running),
            3 => Some(Self::Parking),
            4 => Some(Self::Woken),
            5 => Some(Self::Waiting),
            _ => None,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dead => "dead",
            Self::Runnable => "runnable",
            Self::Running => "running",
            Self::Parking => "parking",
            Self::Woken => "woken",
            Self::Waiting => "waiting",
        })
    }
}

/// An arrow of the diagram, as it is named in a [`BadTransition`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Arrow {
    /// 1
    Spawn = 1,
    /// 2
    Run,
    /// 3
    Yielded,
    /// 4
    BeginPark,
    /// 5
    CancelPark,
    /// 6
    FinishPark,
    /// 7
    Ready,
    /// 8
    Exit,
}

impl Arrow {
    /// The arrow with a number.
    fn numbered(number: u64) -> Self {
        match number {
            1 => Self::Spawn,
            2 => Self::Run,
            3 => Self::Yielded,
            4 => Self::BeginPark,
            5 => Self::CancelPark,
            6 => Self::FinishPark,
            7 => Self::Ready,
            8 => Self::Exit,
            other => unreachable!("{other} is the number of no arrow"),
        }
    }

    /// The states that the arrow leaves.
    pub const fn expected(self) -> &'static [Status] {
        match self {
            Self::Spawn => &[Status::Dead],
            Self::Run => &[Status::Runnable],
            Self::Yielded | Self::BeginPark | Self::Exit => &[Status::Running],
            Self::CancelPark | Self::FinishPark => &[Status::Parking, Status::Woken],
            Self::Ready => &[Status::Waiting, Status::Parking],
        }
    }

    /// The method's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Spawn => "spawn",
            Self::Run => "run",
            Self::Yielded => "yielded",
            Self::BeginPark => "begin_park",
            Self::CancelPark => "cancel_park",
            Self::FinishPark => "finish_park",
            Self::Ready => "ready",
            Self::Exit => "exit",
        }
    }
}

/// Somebody asked for an arrow that does not leave the state the goroutine is in: a bug of the caller.
///
/// Two words, also as the error of a `Result` without value: it is passed in registers, and who checks a step keeps no place for it on the stack.
#[derive(Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct BadTransition {
    /// The status word that was found.
    word: u64,
    /// What was asked for: the arrow's number in the lower byte, [`HANDLE`](Self::HANDLE), and the handle's generation in the upper half.
    asked: NonZeroU64,
}

impl BadTransition {
    /// The bit that says that the arrow takes a handle.
    const HANDLE: u64 = 1 << 8;

    /// `arrow`, which found `word`.
    pub(crate) const fn new(arrow: Arrow, word: u64) -> Self {
        Self::asked(word, arrow as u64)
    }

    /// The same for an arrow that takes a handle, of this generation.
    pub(crate) const fn with_handle(arrow: Arrow, word: u64, generation: u32) -> Self {
        Self::asked(word, arrow as u64 | Self::HANDLE | (generation as u64) << 32)
    }

    const fn asked(word: u64, asked: u64) -> Self {
        // The number of no arrow is 0.
        let Some(asked) = NonZeroU64::new(asked) else { unreachable!() };
        Self { word, asked }
    }

    /// What was attempted.
    pub fn attempted(self) -> Arrow {
        Arrow::numbered(self.asked.get() & 0xff)
    }

    /// The state that was found instead of one of [`Arrow::expected`]. `None`: the word holds none, so something else has written there.
    pub const fn found(self) -> Option<Status> {
        Status::numbered(self.word & 0xff)
    }

    /// The slot's generation.
    pub const fn generation(self) -> u32 {
        generation_of(self.word)
    }

    /// The generation of the caller's handle, where the arrow takes one.
    pub fn handle(self) -> Option<u32> {
        (self.asked.get() & Self::HANDLE != 0).then(|| generation_of(self.asked.get()))
    }

    /// Whether the caller's handle names a goroutine that has exited.
    pub fn is_stale(self) -> bool {
        self.handle().is_some_and(|handle| handle != self.generation())
    }
}

impl fmt::Debug for BadTransition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BadTransition").field(&format_args!("{self}")).finish()
    }
}

impl fmt::Display for BadTransition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, now) = (self.attempted().name(), self.generation());
        if let Some(handle) = self.handle().filter(|_| self.is_stale()) {
            return write!(
                f,
                "{name}: stale handle, generation {handle} has exited and the slot is at {now}"
            );
        }
        match self.found() {
            Some(found) => write!(f, "{name}: the goroutine is {found}, it must be ")?,
            None => write!(f, "{name}: the status is {:#x}, it must be ", self.word)?,
        }
        for (i, status) in self.attempted().expected().iter().enumerate() {
            let separator = if i == 0 { "" } else { " or " };
            write!(f, "{separator}{status}")?;
        }
        write!(f, " (generation {now})")
    }
}

impl core::error::Error for BadTransition {}

/// The generation in the upper half of a status word.
pub(crate) const fn generation_of(word: u64) -> u32 {
    (word >> 32) as u32
}
