//! Lines of text from the console.

use alloc::string::String;
use alloc::vec::Vec;

use machine::serial::Port;

use crate::fd::{self, FdError};
use crate::input::{self, Line};
use crate::stacks::check_g_stack;

/// Bytes of the longest line that comes in one piece.
const LONGEST: usize = 4096;
/// "End of transmission", ASCII: what Ctrl-D types.
const END: u8 = 0x04;
/// Its descriptor.
const FD: u32 = 0;

/// The console's input, as lines of text.
///
/// Nothing is echoed, and a line is not edited: terminals do both, or can be told to.
#[derive(Debug, Clone, Copy)]
pub struct Stdin(());

/// The console's input: the first serial port. Under `cargo run` it is the terminal, or the file of `--input`.
///
/// It begins to receive; [`fd::read`] says how. Does not wait for anybody but the port itself, which has to take
/// one byte; on any stack but that of an interrupt handler.
///
/// ```
/// gzero::go(|| {
///     for line in gzero::stdin().expect("a serial port").lines() {
///         gzero::println!("you say {line}");
///     }
/// });
/// ```
///
/// # Errors
/// [`FdError::NotPresent`] where there is no such port, [`FdError::NoInterrupt`] where it cannot interrupt.
pub fn stdin() -> Result<Stdin, FdError> {
    let ring = fd::source(FD)?.open();
    ring.map(|_| Stdin(())).map_err(|why| FdError::NoInterrupt(FD, why))
}

impl Stdin {
    /// Waits for a line and returns it without its end. `None`: the input has ended, by Ctrl-D at the beginning of a
    /// line; whoever reads on gets what comes after it.
    ///
    /// Lines end with a line feed, a carriage return, or both. Ctrl-D in a line ends it, too. A line of more than 4096 bytes comes
    /// in pieces of so many. What is not UTF-8 becomes U+FFFD, and so does a character that was cut. Goroutines that read take turns,
    /// in the order in which they came, and each gets whole lines.
    ///
    /// ```no_run
    /// let input: gzero::Stdin = gzero::stdin()?;
    /// gzero::print!("what is your name? ");
    /// if let Some(name) = input.read_line() {
    ///     gzero::println!("hello {name}");
    /// }
    /// # Ok::<(), gzero::fd::FdError>(())
    /// ```
    ///
    /// # Throws
    /// When not called on a goroutine's own stack.
    #[track_caller]
    pub fn read_line(self) -> Option<String> {
        let own = check_g_stack("Stdin::read_line");
        let turn = input::of(Port::Com1).take_turn(own).expect("`stdin` has opened it");
        let mut line = Vec::new();
        while line.len() < LONGEST {
            let mut byte = [0];
            turn.read(own, &mut byte);
            let [byte] = byte;
            let means = if byte == b'\r' { Line::AfterReturn } else { Line::Begins };
            match (turn.set_line(means), byte) {
                // The rest of the end of a line that was returned.
                (Line::AfterReturn, b'\n') | (Line::Cut, b'\n' | b'\r' | END) => {}
                (_, END) if line.is_empty() => return None,
                (_, b'\n' | b'\r' | END) => return Some(text(line)),
                (_, byte) => line.push(byte),
            }
        }
        turn.set_line(Line::Cut);
        Some(text(line))
    }

    /// All lines from here on, until the input ends. Does not wait: the steps of the iterator do.
    ///
    /// For a wait that may end otherwise, too, let a goroutine send the lines to a channel:
    ///
    /// ```
    /// use core::time::Duration;
    /// use gzero::{chan, go, select, stdin};
    ///
    /// let (sender, lines) = chan(0);
    /// go(move || stdin().expect("a serial port").lines().try_for_each(|line| sender.send(line)));
    /// select! {
    ///     recv(lines) -> line => gzero::println!("{line:?} was typed"),
    ///     after(Duration::from_millis(5)) => gzero::println!("nobody is there"),
    /// }
    /// ```
    pub fn lines(self) -> Lines {
        Lines(self)
    }
}

fn text(line: Vec<u8>) -> String {
    String::from_utf8(line).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Lines of the console's input, each as [`Stdin::read_line`] returns it. Waits for them, on the goroutine's own stack.
///
/// ```no_run
/// let lines: gzero::Lines = gzero::stdin()?.lines();
/// gzero::println!("{} lines", lines.count());
/// # Ok::<(), gzero::fd::FdError>(())
/// ```
#[derive(Debug)]
pub struct Lines(Stdin);

impl Iterator for Lines {
    type Item = String;

    #[track_caller]
    fn next(&mut self) -> Option<String> {
        self.0.read_line()
    }
}
