//! What most programs use, by one line: `use gzero::prelude::*;`.
//!
//! It has the names that `std`'s prelude gives a hosted program beyond those of `core`, the macros `format!`, `vec!`, `print!` and
//! `println!`, goroutines and scopes, channels and [`select!`](crate::select!), and [`time`]. Not in it: [`entry!`](crate::entry!), the
//! locks and contexts of [`sync`](crate::sync), [`boot_args`](crate::boot_args()), and the collections, which are in
//! [`gzero::alloc`](crate::alloc): `BTreeMap`, `BTreeSet`, `VecDeque`, `BinaryHeap`. `HashMap` is not among them, because its
//! seed needs a source of random numbers; the crate `hashbrown` has one for which the program brings the seed.
//!
//! # Examples
//! ```
//! #![no_std]
//! #![no_main]
//!
//! use gzero::prelude::*;
//!
//! gzero::entry!(main);
//!
//! fn main() {
//!     let words = vec!["one", "two"].iter().map(|word| word.to_string()).collect::<Vec<String>>();
//!     let length = go(move || words.concat().len()).join();
//!     println!("{length} letters");
//! }
//! ```

pub use alloc::borrow::ToOwned;
pub use alloc::boxed::Box;
pub use alloc::rc::Rc;
pub use alloc::string::{String, ToString};
pub use alloc::sync::Arc;
pub use alloc::vec::Vec;
pub use alloc::{format, vec};

pub use crate::{goroutine_local, print, println};

// Goroutines.
pub use crate::join::{JoinHandle, go, go_named, go_with, try_go};
pub use crate::scope::{Scope, ScopedJoinHandle, scope};
pub use crate::{builder::Builder, give_way::gosched};

// Channels.
pub use crate::chan::{Receiver, Sender, chan};
pub use crate::select;

// Time.
pub use crate::time::{self, Duration, Instant, sleep};
