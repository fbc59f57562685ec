//! Channels: [`chan`] makes one, and its [`Sender`] and [`Receiver`].
//!
//! Go's semantics with Rust's ownership: a value is moved in and out, and belongs to one side at a time.
//!
//! | | Go | here |
//! |---|---|---|
//! | send on a closed channel | panics | gives the value back in an error |
//! | receive from a closed, empty channel | zero value, `false` | [`RecvError`] |
//! | close a closed channel | panics | `false` |
//! | nobody has a receiver any more | senders wait for ever | the channel is closed, what it holds is dropped |
//! | nobody has a sender any more | receivers wait for ever | the channel is closed |
//! | the nil channel | waits for ever | an `Option` in a [`select!`](crate::select!) |
//!
//! What is sent is received once or dropped once: by the last receiver, or by the sender who gets it back.
//!
//! What a goroutine did before it sent a value is visible to the one that has received it; what was done before a close, to
//! one that has learnt that the channel is closed; and what was done before the receive that made room, to the sender
//! that got the room.
//!
//! Whoever has to wait in a channel needs a place in its queue. Places are used again; but when none is left, and no memory for
//! more, the machine ends. So it does when there is no memory for the timer of a wait that ends at a time.
//!
//! A value that does not fit on a goroutine's stack goes by `Box`. So should one of many kilobytes: it is copied with the
//! channel locked, as in Go.

mod channel;
pub(crate) mod core;
mod error;
mod receiver;
mod sender;
mod wait;

pub use error::{
    ChanError, RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError,
};
pub use receiver::{IntoIter, Iter, Receiver, TryIter};
pub use sender::Sender;

use self::core::Room;
use channel::Handle;

/// Makes a channel that has room for `capacity` values. Go's `make(chan T, capacity)`.
///
/// With a capacity of 0 a send and a receive meet: each waits for the other, and the value goes from one stack to the other.
/// Values come out in the order in which they went in. Memory for all of them is taken now, and for each no more later.
///
/// The loop of a receiver ends when the last sender has gone: who has cloned one for each worker drops the original. Values
/// may borrow, as what goes to and fro inside of a [`scope`](crate::scope()) does.
///
/// Does not block, and may be called on any stack, but not in a handler of an interrupt.
///
/// # Panics
/// When there is no memory for so many values; [`try_chan`] returns the error instead.
///
/// ```
/// use gzero::{chan, go};
///
/// let (numbers, input) = chan(4);
/// let (output, squares) = chan(4);
/// go(move || {
///     for n in input {
///         output.send(n * n).unwrap();
///     }
/// });
/// for n in 1..=4 {
///     numbers.send(n).unwrap();
/// }
/// drop(numbers);
/// assert!(squares.iter().eq([1, 4, 9, 16]));
/// ```
pub fn chan<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    match try_chan(capacity) {
        Ok(ends) => ends,
        Err(error) => panic!("{error}"),
    }
}

/// [`chan`] that says when there is no memory.
///
/// # Errors
/// [`ChanError`].
///
/// ```
/// use gzero::chan::{ChanError, try_chan};
///
/// assert!(matches!(try_chan::<u64>(usize::MAX), Err(ChanError::TooLarge { .. })));
/// let (tx, rx) = try_chan(1).unwrap();
/// tx.send('a').unwrap();
/// assert_eq!(rx.recv(), Ok('a'));
/// ```
pub fn try_chan<T>(capacity: usize) -> Result<(Sender<T>, Receiver<T>), ChanError> {
    pair(capacity, Room::Told)
}

/// The channel of a timer: with room for one value, of which programs are told nothing.
pub(crate) fn timer_chan<T>() -> (Sender<T>, Receiver<T>) {
    match pair(1, Room::Denied) {
        Ok(ends) => ends,
        Err(error) => panic!("{error}"),
    }
}

fn pair<T>(capacity: usize, room: Room) -> Result<(Sender<T>, Receiver<T>), ChanError> {
    let [sender, receiver] = Handle::pair(capacity, room)?;
    Ok((Sender::new(sender), Receiver::new(receiver)))
}
