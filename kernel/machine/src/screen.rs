//! Text on the boot loader's framebuffer.
//!
//! The screen is never scrolled. Scrolling reads what is shown, and reads of video memory are not cached: on
//! boards they take around a thousand times as long as writes. Instead the text starts again at the top when
//! the screen is full, and the line below the newest one is kept empty to mark where it ends.
//!
//! All methods take `&self`: the cursor is atomic and pixels are written with volatile stores, as to any
//! device. Two CPUs that write at once mix their text and nothing else, so a dying CPU may always write.

use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};

use bootloader_api::info::{FrameBufferInfo, PixelFormat};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, RasterizedChar, get_raster, get_raster_width};

const WEIGHT: FontWeight = FontWeight::Regular;
const SIZE: RasterHeight = RasterHeight::Size16;
/// Width of a character in pixels; the same for all.
const GLYPH_WIDTH: usize = get_raster_width(WEIGHT, SIZE);
/// Height of a line of text in pixels.
const GLYPH_HEIGHT: usize = SIZE.val();
/// Columns between tab stops.
const TAB: usize = 8;

/// Why a framebuffer cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScreenError {
    /// Pixels of a size other than 1, 3 or 4 bytes.
    PixelSize(usize),
    /// Not one character fits.
    TooSmall {
        /// Usable pixels per row.
        width: usize,
        /// Usable rows.
        height: usize,
    },
}

impl fmt::Display for ScreenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PixelSize(bytes) => {
                write!(f, "framebuffer: pixels of {bytes} bytes, only 1, 3 and 4 are supported")
            }
            Self::TooSmall { width, height } => {
                write!(f, "framebuffer: {width} x {height} pixels hold no character")
            }
        }
    }
}

/// A framebuffer as a page of text.
#[derive(Debug)]
pub struct Screen {
    start: *mut u8,
    /// Bytes from one pixel row to the next.
    pitch: usize,
    pixel: Pixel,
    columns: usize,
    lines: usize,
    column: AtomicUsize,
    line: AtomicUsize,
}

// SAFETY: `start` points to video memory that this value owns for ever (from a `&'static mut`); it is only
// written, with volatile stores, and the order of stores from several CPUs does not matter.
unsafe impl Send for Screen {}
// SAFETY: as above.
unsafe impl Sync for Screen {}

/// How a shade of grey is stored.
#[derive(Debug, Clone, Copy)]
struct Pixel {
    bytes: usize,
    /// Bit positions of the colours; text is grey, so each gets the same value.
    shifts: [u8; 3],
}

impl Pixel {
    fn new(info: &FrameBufferInfo) -> Result<Self, ScreenError> {
        let bytes = info.bytes_per_pixel;
        if !matches!(bytes, 1 | 3 | 4) {
            return Err(ScreenError::PixelSize(bytes));
        }
        let shifts = match info.pixel_format {
            PixelFormat::Unknown { red_position, green_position, blue_position } => {
                [red_position, green_position, blue_position]
            }
            PixelFormat::U8 => [0; 3],
            // Red first or blue first: the three positions are the same.
            PixelFormat::Rgb | PixelFormat::Bgr | _ => [0, 8, 16],
        };
        Ok(Self { bytes, shifts })
    }

    fn encode(self, shade: u8) -> u32 {
        let place = |shift: u8| u32::from(shade).checked_shl(u32::from(shift)).unwrap_or(0);
        self.shifts.into_iter().map(place).fold(0, |all, colour| all | colour)
    }
}

impl Screen {
    /// Takes the framebuffer over and clears it.
    ///
    /// Rows that `memory` does not hold are left out, as are the pixels right and below that make no whole
    /// character.
    pub fn new(memory: &'static mut [u8], info: FrameBufferInfo) -> Result<Self, ScreenError> {
        let pixel = Pixel::new(&info)?;
        let width = info.width.min(info.stride);
        let pitch = info.stride.saturating_mul(pixel.bytes);
        let height = memory.len().checked_div(pitch).unwrap_or(0).min(info.height);
        let (columns, lines) = (width / GLYPH_WIDTH, height / GLYPH_HEIGHT);
        if columns == 0 || lines == 0 {
            return Err(ScreenError::TooSmall { width, height });
        }
        memory.fill(0);
        let (column, line) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Ok(Self { start: memory.as_mut_ptr(), pitch, pixel, columns, lines, column, line })
    }

    /// Columns and lines of text.
    pub fn size(&self) -> (usize, usize) {
        (self.columns, self.lines)
    }

    /// Writes text at the cursor: `\n` starts a line, `\r` goes to its begin, `\t` to the next of the tab
    /// stops at every eighth column. Long lines go on in the next line. What is not ASCII appears as `?`.
    pub fn write_text(&self, text: &str) {
        for character in text.chars() {
            match character {
                '\n' => self.start_line(),
                '\r' => self.column.store(0, Ordering::Relaxed),
                '\t' => {
                    let column = self.column.load(Ordering::Relaxed);
                    self.column.store((column / TAB + 1) * TAB, Ordering::Relaxed);
                }
                ' '..='~' => self.put(character),
                _ => self.put('?'),
            }
        }
    }

    // Relaxed throughout: the console's lock orders writers. Those that write without it may mix text, and
    // each value that they can read is checked against the size before it is used.

    fn put(&self, character: char) {
        if self.column.load(Ordering::Relaxed) >= self.columns {
            self.start_line();
        }
        let column = self.column.load(Ordering::Relaxed).min(self.columns - 1);
        let line = self.line.load(Ordering::Relaxed) % self.lines;
        self.column.store(column + 1, Ordering::Relaxed);
        if let Some(glyph) = get_raster(character, WEIGHT, SIZE) {
            self.draw(&glyph, column, line);
        }
    }

    fn start_line(&self) {
        let line = (self.line.load(Ordering::Relaxed) + 1) % self.lines;
        self.line.store(line, Ordering::Relaxed);
        self.column.store(0, Ordering::Relaxed);
        self.clear((line + 1) % self.lines);
    }

    /// Requires `column < self.columns` and `line < self.lines`.
    fn draw(&self, glyph: &RasterizedChar, column: usize, line: usize) {
        let corner = line * GLYPH_HEIGHT * self.pitch + column * GLYPH_WIDTH * self.pixel.bytes;
        for (y, row) in glyph.rows().enumerate() {
            let mut at = corner + y * self.pitch;
            for &shade in row {
                self.store(at, self.pixel.encode(shade));
                at += self.pixel.bytes;
            }
        }
    }

    /// Blackens one line of text.
    fn clear(&self, line: usize) {
        let mut at = line * GLYPH_HEIGHT * self.pitch;
        let end = at + GLYPH_HEIGHT * self.pitch;
        while at < end {
            at += self.clear_some(at, end - at);
        }
    }

    /// Blackens a word at byte `at`, or a byte where no whole word is left or aligned. Returns how many bytes.
    #[expect(clippy::cast_ptr_alignment, reason = "the alignment is checked before the store")]
    fn clear_some(&self, at: usize, left: usize) -> usize {
        // SAFETY: `at` lies inside: `new` took only as many lines of text as the memory holds.
        let word = unsafe { self.start.add(at) }.cast::<u64>();
        if left < size_of::<u64>() || !word.is_aligned() {
            self.store_byte(at, 0);
            return 1;
        }
        // SAFETY: `at + 8` is not beyond the line, which lies inside; aligned; any bytes are valid pixels.
        unsafe { word.write_volatile(0) };
        size_of::<u64>()
    }

    /// Stores one pixel at byte `at`; one store where pixels are aligned words.
    #[expect(clippy::cast_ptr_alignment, reason = "the alignment is checked before the store")]
    fn store(&self, at: usize, value: u32) {
        if self.pixel.bytes == size_of::<u32>() {
            // SAFETY: `at` lies inside a character cell, and those lie inside the framebuffer (`new`).
            let word = unsafe { self.start.add(at) }.cast::<u32>();
            if word.is_aligned() {
                // SAFETY: inside the framebuffer (above), aligned, and any bytes are valid pixels.
                unsafe { word.write_volatile(value) };
                return;
            }
        }
        for (byte, at) in value.to_le_bytes().into_iter().take(self.pixel.bytes).zip(at..) {
            self.store_byte(at, byte);
        }
    }

    fn store_byte(&self, at: usize, byte: u8) {
        // SAFETY: as in `store` and `clear`, `at` lies inside the framebuffer.
        let place = unsafe { self.start.add(at) };
        // SAFETY: inside the framebuffer (above), and any byte is valid.
        unsafe { place.write_volatile(byte) };
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::{FrameBufferInfo, GLYPH_HEIGHT, GLYPH_WIDTH, PixelFormat, Screen, ScreenError};

    const STRIDE: usize = 3 * GLYPH_WIDTH + 5;
    const HEIGHT: usize = 2 * GLYPH_HEIGHT + 3;

    fn info(bytes_per_pixel: usize) -> FrameBufferInfo {
        FrameBufferInfo {
            byte_len: STRIDE * HEIGHT * bytes_per_pixel,
            width: STRIDE - 2,
            height: HEIGHT,
            pixel_format: PixelFormat::Bgr,
            bytes_per_pixel,
            stride: STRIDE,
        }
    }

    /// A screen of three columns and two lines over dirty memory, and a way to look at that memory.
    fn screen(bytes_per_pixel: usize) -> (Screen, impl Fn() -> Vec<u8>) {
        let memory: &'static mut [u8] = Vec::leak(vec![0xaa; info(bytes_per_pixel).byte_len]);
        let (start, len) = (memory.as_ptr().expose_provenance(), memory.len());
        let screen = Screen::new(memory, info(bytes_per_pixel)).expect("a good framebuffer");
        // SAFETY: leaked memory, written by the same thread only.
        let byte = move |at| unsafe { core::ptr::with_exposed_provenance::<u8>(start + at).read_volatile() };
        (screen, move || (0..len).map(byte).collect())
    }

    /// Which of the six cells show anything, line by line; checks that nothing lies outside of them.
    fn used(pixels: &[u8], bytes_per_pixel: usize) -> [bool; 6] {
        let mut cells = [false; 6];
        for (at, _) in pixels.iter().enumerate().filter(|&(_, &byte)| byte != 0) {
            let (x, y) = (at / bytes_per_pixel % STRIDE, at / bytes_per_pixel / STRIDE);
            assert!(x < 3 * GLYPH_WIDTH && y < 2 * GLYPH_HEIGHT, "pixel ({x}, {y}) belongs to no cell");
            cells[y / GLYPH_HEIGHT * 3 + x / GLYPH_WIDTH] = true;
        }
        cells
    }

    #[test]
    fn text_wraps_to_the_top_and_clears_what_follows() {
        for bytes in [1, 3, 4] {
            let (screen, pixels) = screen(bytes);
            assert_eq!(screen.size(), (3, 2));
            assert_eq!(used(&pixels(), bytes), [false; 6], "cleared at the start");
            screen.write_text("ab");
            assert_eq!(used(&pixels(), bytes), [true, true, false, false, false, false]);
            screen.write_text("\n  c");
            assert_eq!(
                used(&pixels(), bytes),
                [false, false, false, false, false, true],
                "next line is empty"
            );
            screen.write_text("d");
            assert_eq!(used(&pixels(), bytes), [true, false, false, false, false, false], "on from the top");
        }
    }

    #[test]
    fn every_pixel_size_shows_the_same_shades() {
        let shades = |bytes: usize| {
            let (screen, pixels) = screen(bytes);
            screen.write_text("g%\u{fc}");
            let shades: Vec<u8> = pixels().iter().copied().step_by(bytes).collect();
            shades
        };
        assert!(shades(1).iter().any(|&shade| shade > 200));
        assert_eq!(shades(1), shades(3));
        assert_eq!(shades(1), shades(4));
    }

    #[test]
    fn not_ascii_is_a_question_mark() {
        let (umlaut, pixels) = screen(4);
        umlaut.write_text("\u{fc}\u{1f600}");
        let (marks, expected) = screen(4);
        marks.write_text("??");
        assert_eq!(pixels(), expected());
    }

    #[test]
    fn refuses_what_it_cannot_draw_on() {
        let refuse = |info| Screen::new(&mut [], info).map(|_| ()).expect_err("a bad framebuffer");
        assert_eq!(refuse(info(2)), ScreenError::PixelSize(2));
        assert_eq!(refuse(info(4)), ScreenError::TooSmall { width: STRIDE - 2, height: 0 });
        assert!(matches!(refuse(FrameBufferInfo { stride: 0, ..info(4) }), ScreenError::TooSmall { .. }));
    }
}
