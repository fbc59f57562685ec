//! Boot arguments: `key=value` words, separated by spaces, that the image carries.
//!
//! Nothing here stops the boot. What is wrong is told through the `warn` function that the caller gives, with the
//! word as it was written, and the default is used.
//!
//! ```
//! use alloc::vec::Vec;
//! use gzero::args::{Args, Warn};
//!
//! let warn: Warn = |what| gzero::println!("warning: {what}");
//! let args = Args::parse("workers=8 mode=fast names=a,b", warn);
//! assert_eq!(args.get("mode"), Some("fast"));
//! assert_eq!(args.number("workers", 1, 1..=64), 8);
//! assert!(args.choice("mode", false, &[("fast", true), ("slow", false)]));
//! assert_eq!(args.list("names").collect::<Vec<_>>(), ["a", "b"]);
//! // Says that `names` is unknown.
//! args.warn_unknown(&["workers", "mode"]);
//! assert_eq!(Args::from_bytes(b"n=1\0\0", warn).get("n"), Some("1"));
//! ```

use core::fmt;
use core::ops::RangeInclusive;
use core::str::FromStr;

/// Keys that the kernel itself understands. Programs declare more in [`entry!`](crate::entry!).
pub const KERNEL_KEYS: [&str; 10] = [
    "gomaxprocs",
    "preempt",
    "deadlock",
    "schedtrace",
    "stopreport",
    "stopthrow",
    "log",
    "run",
    "cases",
    "ghost",
];

/// Takes one line of warning.
pub type Warn = fn(fmt::Arguments<'_>);

/// The boot arguments.
#[derive(Debug, Clone, Copy)]
pub struct Args {
    text: &'static str,
    warn: Warn,
}

impl Args {
    /// Reads the image's argument file. Text that is not UTF-8 is ignored as a whole.
    pub fn from_bytes(bytes: &'static [u8], warn: Warn) -> Self {
        let text = core::str::from_utf8(bytes).unwrap_or_else(|error| {
            let at = error.valid_up_to();
            warn(format_args!("boot arguments: not UTF-8 at byte {at}; all of them are ignored"));
            ""
        });
        Self::parse(text, warn)
    }

    /// Reads the arguments. Warns of words that are not `key=value`, and of keys that come again.
    pub fn parse(text: &'static str, warn: Warn) -> Self {
        // The loader may fill the file up with zeroes.
        let args = Self { text: text.trim_end_matches('\0'), warn };
        for word in args.text.split_whitespace().filter(|word| split(word).is_none()) {
            warn(format_args!("boot argument `{word}`: not of the form key=value; ignored"));
        }
        for (at, (key, value)) in args.pairs().enumerate() {
            let again = args.pairs().take(at).any(|(earlier, _)| earlier == key);
            let last = args.pairs().skip(at + 1).all(|(later, _)| later != key);
            if again && last {
                warn(format_args!(
                    "boot argument `{key}` is given more than once; the last, `{value}`, counts"
                ));
            }
        }
        args
    }

    /// The value of a key; of the last one, if it is given more than once.
    pub fn get(&self, key: &str) -> Option<&'static str> {
        self.pairs().filter(|&(name, _)| name == key).last().map(|(_, value)| value)
    }

    /// The number that a key has, or the default when there is none, which may lie outside of the range. A value that is
    /// no number in the range gives a warning and the default.
    pub fn number<T>(&self, key: &str, default: T, range: RangeInclusive<T>) -> T
    where
        T: FromStr + PartialOrd + fmt::Display,
    {
        let Some(value) = self.get(key) else { return default };
        if let Some(number) = value.parse::<T>().ok().filter(|number| range.contains(number)) {
            return number;
        }
        let (least, most) = range.into_inner();
        (self.warn)(format_args!(
            "boot argument `{key}={value}`: not a number from {least} to {most}; {default} is used"
        ));
        default
    }

    /// What a key's value stands for among `choices`, or the default when the key is not given. Any other value
    /// gives a warning and the default.
    pub fn choice<T: Copy>(&self, key: &str, default: T, choices: &[(&str, T)]) -> T {
        let Some(value) = self.get(key) else { return default };
        if let Some(&(_, chosen)) = choices.iter().find(|(name, _)| *name == value) {
            return chosen;
        }
        let names = List(choices.iter().map(|(name, _)| *name));
        (self.warn)(format_args!("boot argument `{key}={value}`: not one of {names}; the default is used"));
        default
    }

    /// The parts of a value that is a list, such as `cases=a,b,c`; none when the key is not given.
    pub fn list(&self, key: &str) -> impl Iterator<Item = &'static str> + use<> {
        self.get(key).into_iter().flat_map(|value| value.split(',')).filter(|part| !part.is_empty())
    }

    /// Warns of keys that neither the kernel nor the program knows. `declared`: the program's keys.
    pub fn warn_unknown(&self, declared: &[&str]) {
        let known = || KERNEL_KEYS.iter().chain(declared).copied();
        for (key, value) in self.pairs().filter(|&(key, _)| known().all(|name| name != key)) {
            let names = List(known());
            (self.warn)(format_args!(
                "boot argument `{key}={value}`: unknown key, ignored; known are {names}"
            ));
        }
    }

    fn pairs(&self) -> impl Iterator<Item = (&'static str, &'static str)> + use<> {
        self.text.split_whitespace().filter_map(split)
    }
}

/// Key and value of a word; the value may hold further `=`.
fn split(word: &str) -> Option<(&str, &str)> {
    word.split_once('=').filter(|(key, _)| !key.is_empty())
}

/// Names, shown with commas between them.
struct List<I>(I);

impl<'n, I: Iterator<Item = &'n str> + Clone> fmt::Display for List<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.clone().enumerate().try_for_each(|(at, name)| {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{name}")
        })
    }
}
