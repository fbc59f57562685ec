//! What is typed for the guest: read from a file or a terminal, and passed on when the guest listens.
//!
//! A guest that begins to read says so by XON, and by XOFF that it cannot follow. What came before the first XON would be taken by
//! firmware, or thrown away when the kernel sets up the port.

use core::fmt;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Write};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::Error;

/// ASCII "device control 1" and "3": go on, stop.
const XON: u8 = 0x11;
const XOFF: u8 = 0x13;
/// ASCII "end of transmission", as Ctrl-D types it at the beginning of a line.
const END: u8 = 0x04;

/// Where it comes from.
pub struct Input(Box<dyn Read + Send>);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input").finish_non_exhaustive()
    }
}

impl Input {
    /// The named file, or standard input for `-`; without a name the terminal, if standard input is one.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the file cannot be opened.
    pub fn open(name: Option<&Path>) -> Result<Option<Self>, Error> {
        match name {
            Some(name) if name == Path::new("-") => Ok(Some(Self(Box::new(io::stdin())))),
            Some(name) => {
                let file = File::open(name).map_err(Error::io("read the input", name))?;
                Ok(Some(Self(Box::new(file))))
            }
            None if io::stdin().is_terminal() => Ok(Some(Self(Box::new(io::stdin())))),
            None => Ok(None),
        }
    }

    /// Passes it on for as long as there is any and somebody takes it. At the end says so, as a terminal does.
    pub fn pass_on(mut self, to: &mut impl Write, gate: &Gate) {
        let mut buffer = [0; 256];
        let mut last = b'\n';
        loop {
            let (bytes, over) = match self.0.read(&mut buffer) {
                Ok(count @ 1..) => (&buffer[..count], false),
                // in a line it takes two: the first only ends the line
                _ if last == b'\n' => (&[END][..], true),
                _ => (&[END, END][..], true),
            };
            last = *bytes.last().unwrap_or(&last);
            gate.wait();
            if to.write_all(bytes).and_then(|()| to.flush()).is_err() || over {
                return;
            }
        }
    }
}

/// Whether the guest listens.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// Follows what the guest says, and takes what it says about this out.
    pub fn follow(&self, said: &mut Vec<u8>) {
        let last = said.iter().rfind(|byte| [XON, XOFF].contains(byte)).copied();
        if let Some(last) = last {
            said.retain(|byte| ![XON, XOFF].contains(byte));
            *self.open() = last == XON;
            self.0.1.notify_all();
        }
    }

    fn wait(&self) {
        let mut open = self.open();
        while !*open {
            open = self.0.1.wait(open).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn open(&self) -> MutexGuard<'_, bool> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{END, Gate, Input, XOFF, XON};
    use std::io::Cursor;

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
        assert_eq!(passed_on("a"), [b'a', END, END]);
    }

    #[test]
    fn the_gate_is_as_the_guest_said_last() {
        let gate = Gate::default();
        for (said, left, open) in [
            (&b"hello"[..], &b"hello"[..], false),
            (&[b'a', XON, b'b'], b"ab", true),
            (b"more", b"more", true),
            (&[XON, XOFF], b"", false),
            (&[XOFF, b'x', XON], b"x", true),
        ] {
            let mut said = said.to_vec();
            gate.follow(&mut said);
            assert_eq!((said.as_slice(), *gate.open()), (left, open));
        }
    }
}
