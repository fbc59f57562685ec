//! The parts of an emulated machine as types, and how they are written on the command line.

use core::fmt;
use core::str::FromStr;

use clap::ValueEnum;

/// More CPUs than this need 32-bit APIC ids in interrupt messages, hence an interrupt-remapping device.
pub const XAPIC_CPUS: u32 = 255;

/// What starts the boot loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Firmware {
    /// `SeaBIOS`, which comes with QEMU.
    Bios,
    /// OVMF, which is a package of its own.
    Uefi,
}

/// The board that QEMU emulates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Board {
    /// A board with PCI Express, of 2009.
    Q35,
    /// A board with PCI, of 1996.
    Pc,
}

impl fmt::Display for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Q35 => "q35",
            Self::Pc => "pc",
        })
    }
}

/// Number and arrangement of CPUs, as QEMU's `-smp` writes them: `4` or `6,sockets=3,cores=2,maxcpus=12`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpus {
    text: String,
    most: u32,
}

impl Cpus {
    /// The largest number of CPUs the machine may have: `maxcpus`, or the number at boot.
    pub const fn most(&self) -> u32 {
        self.most
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Cpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const KEYS: [&str; 8] =
            ["cpus", "maxcpus", "sockets", "dies", "clusters", "modules", "cores", "threads"];
        let mut at_boot = None;
        let mut most = None;
        for (position, part) in text.split(',').enumerate() {
            let (key, value) = match part.split_once('=') {
                None if position == 0 => ("cpus", part),
                None => return Err(format!("`{part}` has no value; write key=number")),
                Some(pair) => pair,
            };
            if !KEYS.contains(&key) {
                return Err(format!("unknown key `{key}`; known are {}", KEYS.join(", ")));
            }
            let number = match value.parse::<u32>() {
                Ok(number) if number > 0 => number,
                _ => return Err(format!("`{value}` is not a number of at least 1")),
            };
            match key {
                "cpus" => at_boot = Some(number),
                "maxcpus" => most = Some(number),
                _ => {}
            }
        }
        let at_boot =
            at_boot.ok_or("the number of CPUs is missing; write it first, as in 6,sockets=3,cores=2")?;
        let most = most.unwrap_or(at_boot);
        if most < at_boot {
            return Err(format!("maxcpus={most} is less than the {at_boot} CPUs at boot"));
        }
        Ok(Self { text: text.to_owned(), most })
    }
}

/// Size of the machine's memory, as in `96M` or `2G`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory(String);

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Memory {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_suffix(['M', 'G', 'm', 'g']);
        match digits.map(str::parse::<u32>) {
            Some(Ok(number)) if number > 0 => Ok(Self(text.to_uppercase())),
            _ => Err("write a number with M or G, as in 96M or 2G".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_numbers_and_topologies_are_read() {
        for (text, most) in [("1", 1), ("288", 288), ("6,sockets=3,cores=2", 6), ("cpus=4,maxcpus=12", 12)] {
            let cpus: Cpus = text.parse().expect("a good form");
            assert_eq!((cpus.most(), cpus.to_string().as_str()), (most, text));
        }
    }

    #[test]
    fn wrong_cpu_forms_say_what_is_wrong() {
        for (text, word) in [
            ("0", "at least 1"),
            ("four", "`four`"),
            ("", "``"),
            ("4,cores", "`cores` has no value"),
            ("4,legs=2", "unknown key `legs`"),
            ("4,maxcpus=2", "less than the 4"),
            ("sockets=2", "missing"),
        ] {
            let error = text.parse::<Cpus>().expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn memory_needs_a_number_and_a_unit() {
        assert_eq!("96m".parse::<Memory>().expect("a good form").to_string(), "96M");
        for text in ["96", "0M", "G", "1T", "-1G", "1.5G"] {
            assert!(text.parse::<Memory>().is_err(), "{text}");
        }
    }
}
