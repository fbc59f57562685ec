//! How a goroutine is started, and why it is not.

use core::fmt;

use machine::address::size;
use machine::frames::FRAME_SIZE;
use machine::stack::Size;
use sched::table::GrowError;

/// The least stack that can be asked for, in bytes.
const LEAST_STACK: u64 = 16 * 1024;

/// Why a goroutine could not be started.
///
/// # Examples
/// ```
/// match gzero::go_with(gzero::Builder::new().stack_size(1 << 30), || {}) {
///     Err(error @ gzero::GoError::StackTooLarge { maximum, .. }) => gzero::println!("{error}: {maximum}"),
///     other => drop(other),
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum GoError {
    /// The table of goroutines cannot grow.
    Table(GrowError),
    /// No page is left for its stack.
    NoStackMemory,
    /// The heap has no room for a closure or a result that is too large to lie on the goroutine's stack.
    NoHeapMemory {
        /// Bytes that were asked for.
        bytes: usize,
    },
    /// A larger stack was asked for than goroutines have.
    StackTooLarge {
        /// Bytes that were asked for.
        asked: usize,
        /// Bytes that can be had.
        maximum: usize,
    },
}

impl fmt::Display for GoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot start a goroutine: ")?;
        match self {
            Self::Table(error) => error.fmt(f),
            Self::NoStackMemory => f.write_str("no memory for its stack"),
            Self::NoHeapMemory { bytes } => {
                write!(f, "no memory on the heap for {bytes} bytes of its closure or result")
            }
            Self::StackTooLarge { asked, maximum } => {
                write!(f, "a stack of {asked} bytes was asked for, the maximum is {maximum}")
            }
        }
    }
}

impl core::error::Error for GoError {}

/// What a goroutine gets besides its closure: a name, and a limit for its stack. For [`go_with`](crate::go_with()).
///
/// # Examples
/// ```
/// # gzero::entry!(main);
/// use gzero::{Builder, go_with};
///
/// fn main() -> Result<(), gzero::GoError> {
///     let parser = go_with(Builder::new().name("parser").stack_size(64 * 1024), || 6 * 7)?;
///     assert_eq!(parser.join(), 42);
///     Ok(())
/// }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use = "it starts nothing by itself"]
pub struct Builder {
    name: &'static str,
    stack_size: Option<usize>,
}

impl Builder {
    /// No name, and a stack of [`DEFAULT_STACK_SIZE`](Self::DEFAULT_STACK_SIZE).
    ///
    /// # Examples
    /// ```
    /// let handle = gzero::go_with(gzero::Builder::new(), || 1)?;
    /// assert_eq!(handle.join(), 1);
    /// # Ok::<(), gzero::GoError>(())
    /// ```
    pub const fn new() -> Self {
        Self { name: "", stack_size: None }
    }

    /// Bytes of stack that each goroutine has unless it is given less or more: 124 KiB of addresses, of which one page is mapped at first,
    /// and the others when they are touched. The main goroutine has the most.
    ///
    /// Such stacks share page tables, 16 of them one: a goroutine that uses one page takes 256 bytes more for that.
    ///
    /// # Examples
    /// ```
    /// gzero::println!("{} KiB", gzero::Builder::DEFAULT_STACK_SIZE / 1024);
    /// ```
    pub const DEFAULT_STACK_SIZE: usize = size(Size::Usual.usable());

    /// The most that a goroutine can be given: 1020 KiB of addresses.
    ///
    /// # Examples
    /// ```
    /// let deep = gzero::Builder::new().stack_size(gzero::Builder::MAX_STACK_SIZE);
    /// gzero::go_with(deep, || {})?.join();
    /// # Ok::<(), gzero::GoError>(())
    /// ```
    pub const MAX_STACK_SIZE: usize = size(Size::Large.usable());

    /// Gives the goroutine a name for reports; the first 65,535 bytes of it are kept.
    ///
    /// # Examples
    /// ```
    /// let reader = gzero::go_with(gzero::Builder::new().name("reader"), || {})?;
    /// reader.join();
    /// # Ok::<(), gzero::GoError>(())
    /// ```
    pub const fn name(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// Limits the goroutine's stack to this many bytes, rounded up to whole pages of 4 KiB, and to 16 KiB at least.
    ///
    /// A goroutine that uses more ends the machine with `stack overflow`, as one does that has used up the whole. Stacks take memory as
    /// they are touched, so a limit saves none by itself: it bounds what a goroutine can come to use. With more than
    /// [`DEFAULT_STACK_SIZE`](Self::DEFAULT_STACK_SIZE) a goroutine takes half a page table more. More than
    /// [`MAX_STACK_SIZE`](Self::MAX_STACK_SIZE) is refused when the goroutine is started.
    ///
    /// If the goroutine gets a stack that an earlier one has used more of, the surplus is unmapped, which interrupts all CPUs once.
    ///
    /// # Examples
    /// ```
    /// let small = gzero::go_with(gzero::Builder::new().stack_size(32 * 1024), || {})?;
    /// small.join();
    /// # Ok::<(), gzero::GoError>(())
    /// ```
    pub const fn stack_size(self, bytes: usize) -> Self {
        Self { stack_size: Some(bytes), ..self }
    }

    pub(crate) const fn get_name(&self) -> &'static str {
        self.name
    }

    /// Whether nothing is said of the stack.
    #[inline]
    pub(crate) const fn has_usual_stack(&self) -> bool {
        self.stack_size.is_none()
    }

    /// The stack that it gets.
    ///
    /// # Errors
    /// [`GoError::StackTooLarge`].
    pub(crate) fn stack(&self) -> Result<Wish, GoError> {
        let Some(asked) = self.stack_size else { return Ok(Wish { size: Size::Usual, pages: None }) };
        if asked > Self::MAX_STACK_SIZE {
            return Err(GoError::StackTooLarge { asked, maximum: Self::MAX_STACK_SIZE });
        }
        let size = if asked <= Self::DEFAULT_STACK_SIZE { Size::Usual } else { Size::Large };
        let pages = (asked as u64).max(LEAST_STACK).div_ceil(FRAME_SIZE);
        Ok(Wish { size, pages: Some(pages) })
    }
}

/// Which stack, and how many pages of it; `None` for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) size: Size,
    pub(crate) pages: Option<u64>,
}
