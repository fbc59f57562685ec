//! What is typed for the guest: read from a file or a terminal, and passed on when the guest listens.
//!
//! A guest that begins to read says so by XON, and by XOFF that it cannot follow. What came before the first XON would be taken by
//! firmware, or thrown away when the kernel sets up the port.

use core::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::Error;

/// ASCII "device control 1" and "3": go on, stop.
const XON: u8 = 0x11;
const XOFF: u8 = 0x13;
/// ASCII "end of transmission", as Ctrl-D types it at the beginning of a line.
const END: u8 = 0x04;

/// The name that stands for standard input.
pub const STDIN: &str = "-";

/// Where it comes from.
pub struct Input(Box<dyn Read + Send>);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input").finish_non_exhaustive()
    }
}

impl Input {
    /// The named file, or standard input for `-`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the file cannot be read.
    pub fn open(name: &Path) -> Result<Self, Error> {
        if name == Path::new(STDIN) {
            return Ok(Self(Box::new(io::stdin())));
        }
        let file = File::open(name).and_then(|file| {
            if file.metadata()?.is_dir() { Err(io::ErrorKind::IsADirectory.into()) } else { Ok(file) }
        });
        Ok(Self(Box::new(file.map_err(Error::io("read the input", name))?)))
    }

    /// Passes it on for as long as there is any, somebody takes it, and the gate does not close for good. At the end says so, as a
    /// terminal does.
    pub fn pass_on(mut self, to: &mut impl Write, gate: &Gate) {
        let mut buffer = [0; 256];
        let mut last = b'\n';
        // Nothing is read for a guest that does not listen: somebody else may want it.
        while gate.wait() {
            let (bytes, over) = match self.0.read(&mut buffer) {
                Ok(count @ 1..) => (&buffer[..count], false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                end => {
                    if let Err(error) = end {
                        eprintln!("boot: the input ends early ({error})");
                    }
                    // in a line it takes two: the first only ends the line
                    let ends_in_line = ![b'\n', b'\r'].contains(&last);
                    (if ends_in_line { &[END, END][..] } else { &[END][..] }, true)
                }
            };
            last = *bytes.last().unwrap_or(&last);
            if !gate.wait() || to.write_all(bytes).and_then(|()| to.flush()).is_err() || over {
                return;
            }
        }
    }
}

/// Whether the guest listens.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<(Mutex<State>, Condvar)>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Shut,
    Open,
    /// The guest has ended.
    Gone,
}

impl Gate {
    /// Follows what the guest says, and takes what it says about this out.
    pub fn follow(&self, said: &mut Vec<u8>) {
        let last = said.iter().rfind(|byte| [XON, XOFF].contains(byte)).copied();
        if let Some(last) = last {
            said.retain(|byte| ![XON, XOFF].contains(byte));
            self.set(if last == XON { State::Open } else { State::Shut });
        }
    }

    /// The guest has ended: who waits does not wait any more.
    pub fn close(&self) {
        self.set(State::Gone);
    }

    fn set(&self, state: State) {
        *self.state() = state;
        self.0.1.notify_all();
    }

    /// Waits while it is shut. Whether it is open then.
    fn wait(&self) -> bool {
        let mut state = self.state();
        while *state == State::Shut {
            state = self.0.1.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        *state == State::Open
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{END, Gate, Input, State, XOFF, XON};
    use std::io::{self, Cursor, Read};
    use std::thread;

    fn passed_on(text: &str) -> Vec<u8> {
        let gate = Gate::default();
        gate.follow(&mut vec![XON]);
        let mut to = Vec::new();
        Input(Box::new(Cursor::new(text.to_owned().into_bytes()))).pass_on(&mut to, &gate);
        to
    }

    #[test]
    fn the_end_is_typed_as_on_a_terminal() {
        assert_eq!(passed_on(""), [END]);
        assert_eq!(passed_on("a\n"), [b'a', b'\n', END]);
        assert_eq!(passed_on("a\r"), [b'a', b'\r', END]);
        assert_eq!(passed_on("a"), [b'a', END, END]);
    }

    #[test]
    fn the_gate_is_as_the_guest_said_last() {
        let gate = Gate::default();
        for (said, left, state) in [
            (&b"hello"[..], &b"hello"[..], State::Shut),
            (&[b'a', XON, b'b'], b"ab", State::Open),
            (b"more", b"more", State::Open),
            (&[XON, XOFF], b"", State::Shut),
            (&[XOFF, b'x', XON], b"x", State::Open),
        ] {
            let mut said = said.to_vec();
            gate.follow(&mut said);
            assert_eq!((said.as_slice(), *gate.state()), (left, state));
        }
    }

    #[test]
    fn nothing_is_read_for_a_guest_that_never_listens() {
        struct Never;
        impl Read for Never {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                panic!("somebody else may want it")
            }
        }
        let gate = Gate::default();
        let other = gate.clone();
        let passes = thread::spawn(move || Input(Box::new(Never)).pass_on(&mut Vec::new(), &other));
        gate.close();
        passes.join().expect("it ends without reading");
    }
}
