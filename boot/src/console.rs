//! What the guest says on its first serial port: firmware noise is dropped, the last line is remembered.

use crate::machine::Firmware;
use crate::verdict::Stage;

/// Longest line that is remembered, in bytes.
const LINE: usize = 400;
/// How each line of OVMF's boot manager begins.
const OVMF_LINE: &[u8] = b"BdsDxe: ";
/// What OVMF says when it hands over to a boot loader.
const OVMF_STARTS: &[u8] = b"BdsDxe: starting";

/// The serial port from power-on to the end.
#[derive(Debug)]
pub struct Console {
    noise: Option<Noise>,
    stage: Stage,
    last: Vec<u8>,
    line: Vec<u8>,
}

impl Console {
    /// The console of a machine with this firmware. BIOS says nothing there.
    pub fn new(firmware: Firmware) -> Self {
        let noise = (firmware == Firmware::Uefi).then(Noise::new);
        Self { noise, stage: Stage::Nothing, last: Vec::new(), line: Vec::new() }
    }

    /// Takes what came and returns the part that the program (or the boot loader) said.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let said = match &mut self.noise {
            None => bytes.to_vec(),
            Some(noise) => {
                let said = noise.strip(bytes);
                self.stage = noise.stage;
                said
            }
        };
        if !said.is_empty() {
            self.stage = Stage::Program;
        }
        for byte in &said {
            match byte {
                b'\n' => self.end_line(),
                byte if self.line.len() < LINE => self.line.push(*byte),
                _ => {}
            }
        }
        said
    }

    fn end_line(&mut self) {
        if !self.line.trim_ascii().is_empty() {
            self.last.clone_from(&self.line);
        }
        self.line.clear();
    }

    /// The last full line that is not empty; an unfinished one if there is no other.
    pub fn last_line(&self) -> Option<String> {
        let line = if self.last.is_empty() { &self.line } else { &self.last };
        let text = String::from_utf8_lossy(line).trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    /// How far the machine came by what was heard here.
    pub const fn stage(&self) -> Stage {
        self.stage
    }
}

/// OVMF's boot manager: escape sequences that clear the terminal, and lines about boot devices.
#[derive(Debug)]
struct Noise {
    state: State,
    held: Vec<u8>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the start of a line or in one that may be the firmware's.
    Line,
    /// After ESC.
    Escape,
    /// In an escape sequence, up to its final letter.
    Sequence,
    /// The program speaks: all passes.
    Over,
}

impl Noise {
    const fn new() -> Self {
        Self { state: State::Line, held: Vec::new(), stage: Stage::Nothing }
    }

    fn strip(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut said = Vec::new();
        for (index, byte) in bytes.iter().enumerate() {
            match (self.state, *byte) {
                (State::Over, _) => {
                    said.extend_from_slice(&bytes[index..]);
                    break;
                }
                (State::Escape, b'[') => self.state = State::Sequence,
                (State::Sequence, b'@'..=b'~') | (State::Escape, _) => self.state = State::Line,
                (State::Sequence, _) => {}
                (State::Line, 0x1b) => self.state = State::Escape,
                (State::Line, byte) => self.line(byte, &mut said),
            }
        }
        said
    }

    fn line(&mut self, byte: u8, said: &mut Vec<u8>) {
        self.held.push(byte);
        let compared = self.held.len().min(OVMF_LINE.len());
        if byte == b'\n' && (self.held.starts_with(OVMF_LINE) || self.held.trim_ascii().is_empty()) {
            let starts = self.held.starts_with(OVMF_STARTS);
            self.stage = self.stage.max(if starts { Stage::BootLoader } else { Stage::Firmware });
            self.held.clear();
        } else if self.held[..compared] != OVMF_LINE[..compared] && !self.held.trim_ascii().is_empty() {
            said.append(&mut self.held);
            self.state = State::Over;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OVMF: &[u8] = b"\x1b[2J\x1b[01;01H\x1b[=3hBdsDxe: loading Boot0001 \"disk\"\r\nBdsDxe: starting Boot0001\r\n\x1b[2J";

    fn taken(console: &mut Console, bytes: &[u8], size: usize) -> Vec<u8> {
        bytes.chunks(size).flat_map(|part| console.take(part)).collect()
    }

    #[test]
    fn firmware_noise_is_dropped_however_it_is_cut() {
        for size in 1..80 {
            let mut console = Console::new(Firmware::Uefi);
            assert_eq!(taken(&mut console, OVMF, size), b"");
            assert_eq!(console.stage(), Stage::BootLoader);
            assert_eq!(console.last_line(), None);
            assert_eq!(taken(&mut console, b"Bring-up\r\n\x1b[1mbold\n", size), b"Bring-up\r\n\x1b[1mbold\n");
            assert_eq!(console.last_line().as_deref(), Some("\u{1b}[1mbold"));
            assert_eq!(console.stage(), Stage::Program);
        }
    }

    #[test]
    fn a_bios_machine_passes_all() {
        let mut console = Console::new(Firmware::Bios);
        assert_eq!(console.take(OVMF), OVMF);
    }

    #[test]
    fn the_last_full_line_is_remembered() {
        let mut console = Console::new(Firmware::Bios);
        assert_eq!(console.last_line(), None);
        console.take(b"half");
        assert_eq!(console.last_line().as_deref(), Some("half"));
        console.take(b" a line\r\n\r\nnext");
        assert_eq!(console.last_line().as_deref(), Some("half a line"));
    }
}
