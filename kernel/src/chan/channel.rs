//! A channel in memory: who has it, and when it goes.
//!
//! A channel is one block of the heap, made when its first two handles are: its [`Core`], the numbers of its handles, and
//! the places of its ring behind them.
//!
//! # When the block goes
//!
//! Each kind of handle is counted. The last sender closes the channel; the last receiver closes it, too, and drops
//! the values that nobody will receive. Whoever comes second of these two frees the block: a flag that both swap
//! says who that is, so the block is freed when no handle is left and by one of them only. A goroutine that waits in
//! the channel, or is about to ready somebody out of it, borrows a handle.

use alloc::alloc::{alloc, dealloc};
use core::alloc::Layout;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::mem::{MaybeUninit, needs_drop};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use sched::chan::MAX_CAPACITY;

use super::core::{Core, Outcome, Patience, Room};
use super::error::ChanError;
use crate::panic::throw;

/// The block's beginning; the ring's places follow.
pub(super) struct Channel<T> {
    pub(super) core: Core,
    senders: AtomicUsize,
    receivers: AtomicUsize,
    /// One kind of handles is gone.
    one_side_gone: AtomicBool,
    values: PhantomData<UnsafeCell<MaybeUninit<T>>>,
}

/// Which kind of handles, and their number.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Sender,
    Receiver,
}

/// A handle's pointer. Each is counted.
pub(super) struct Handle<T>(NonNull<Channel<T>>, PhantomData<T>);

// SAFETY: the channel's parts are guarded by its lock or are atomic, and values go from one goroutine to another.
unsafe impl<T: Send> Send for Handle<T> {}
// SAFETY: as above: through a shared handle values are sent or received, never borrowed.
unsafe impl<T: Send> Sync for Handle<T> {}

/// The block of a channel, and where the ring begins in it.
fn layout<T>(capacity: usize) -> Result<(Layout, usize), ChanError> {
    let overflow = ChanError::TooLarge { capacity, element: size_of::<T>() };
    if capacity > MAX_CAPACITY {
        return Err(overflow);
    }
    let places = Layout::array::<T>(capacity).map_err(|_| overflow)?;
    let (whole, start) = Layout::new::<Channel<T>>().extend(places).map_err(|_| overflow)?;
    Ok((whole.pad_to_align(), start))
}

impl<T> Handle<T> {
    /// Makes a channel; the two handles are a sender's and a receiver's.
    pub(super) fn pair(capacity: usize, room: Room) -> Result<[Self; 2], ChanError> {
        let (layout, start) = layout::<T>(capacity)?;
        // SAFETY: the layout has the size of a `Channel` at least.
        let block = unsafe { alloc(layout) };
        let no_memory = ChanError::NoMemory { capacity, bytes: layout.size() };
        let channel: NonNull<Channel<T>> = NonNull::new(block).ok_or(no_memory)?.cast();
        // SAFETY: the ring begins within the block, or at its end if it has no places.
        let buffer = unsafe { block.add(start) };
        let new = Channel {
            core: Core::new(capacity, room, size_of::<T>(), buffer),
            senders: AtomicUsize::new(1),
            receivers: AtomicUsize::new(1),
            one_side_gone: AtomicBool::new(false),
            values: PhantomData,
        };
        // SAFETY: the block is aligned for it, large enough, and new.
        unsafe { channel.write(new) };
        Ok([Self(channel, PhantomData), Self(channel, PhantomData)])
    }

    pub(super) fn channel(&self) -> &Channel<T> {
        // SAFETY: the block stays while a handle is counted.
        unsafe { self.0.as_ref() }
    }

    pub(super) fn core(&self) -> &Core {
        &self.channel().core
    }

    /// Another handle of the same kind.
    pub(super) fn another(&self, kind: Kind) -> Self {
        // Relaxed: as for `Arc`: the caller has a handle, so the count cannot reach 0 meanwhile.
        let before = self.channel().handles(kind).fetch_add(1, Ordering::Relaxed);
        if before > usize::MAX / 2 {
            throw(format_args!("a channel with 2^63 handles"));
        }
        Self(self.0, PhantomData)
    }

    /// Says that a handle is not used any more. `last` is called if it was the last of its kind.
    ///
    /// # Safety
    /// The handle is not used after this.
    pub(super) unsafe fn give_up(&self, kind: Kind, last: impl FnOnce(&Channel<T>)) {
        // AcqRel: what other handles did is before what the last one does.
        if self.channel().handles(kind).fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        last(self.channel());
        // AcqRel: what the first side did is before the second one's freeing.
        if self.channel().one_side_gone.swap(true, Ordering::AcqRel) {
            // SAFETY: no handle of either kind is left, so nobody has a reference.
            unsafe { free(self.0) };
        }
    }

    /// Whether two handles are the same channel's.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        ptr::eq(self.0.as_ptr(), other.0.as_ptr())
    }
}

/// Frees a channel's block. Its ring is empty: the last receiver has dropped what was there, and a closed channel gets
/// nothing more.
///
/// # Safety
/// Nobody has a handle any more, or a reference.
unsafe fn free<T>(channel: NonNull<Channel<T>>) {
    // SAFETY: the caller's contract.
    let capacity = unsafe { channel.as_ref() }.core.capacity();
    // SAFETY: likewise; it is not used after this.
    unsafe { channel.drop_in_place() };
    if let Ok((layout, _)) = layout::<T>(capacity) {
        // SAFETY: `pair` allocated it with this layout.
        unsafe { dealloc(channel.cast().as_ptr(), layout) };
    }
}

impl<T> Channel<T> {
    fn handles(&self, kind: Kind) -> &AtomicUsize {
        match kind {
            Kind::Sender => &self.senders,
            Kind::Receiver => &self.receivers,
        }
    }

    /// Sends; the value is given back if it was not passed.
    #[inline]
    #[track_caller]
    pub(super) fn send(&self, value: T, patience: Patience) -> (Outcome, MaybeUninit<T>) {
        let mut value = MaybeUninit::new(value);
        // SAFETY: a value of the channel's type, whose slot lies on this stack.
        let outcome = unsafe { self.core.send(value.as_mut_ptr().cast(), size_of::<T>(), patience) };
        (outcome, value)
    }

    /// Receives, or says why not.
    #[inline]
    #[track_caller]
    pub(super) fn recv(&self, patience: Patience) -> Result<T, Outcome> {
        let mut slot = MaybeUninit::<T>::uninit();
        // SAFETY: a slot for a value of the channel's type, on this stack.
        match unsafe { self.core.recv(slot.as_mut_ptr().cast(), size_of::<T>(), patience) } {
            // SAFETY: a value was passed into the slot.
            Outcome::Passed => Ok(unsafe { slot.assume_init() }),
            other @ (Outcome::Closed | Outcome::WouldWait | Outcome::TimedOut) => Err(other),
        }
    }

    /// Drops all values in the ring, each in its place and without the lock. The channel is closed, and nobody receives from it
    /// any more.
    pub(super) fn drain(&self) {
        if !needs_drop::<T>() {
            return self.core.clear();
        }
        while let Some(value) = self.core.take_in_place() {
            // SAFETY: a value of the channel's type, which was taken out of the queue.
            unsafe { value.cast::<T>().drop_in_place() };
        }
    }
}
