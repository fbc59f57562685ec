//! Reads heap dumps in the "go1.4 heap dump" format and checks that they make sense.
//!
//! Written from the format's documentation (Go wiki, `heapdump14`) and sharing nothing with the kernel's writer, so that
//! the two can disagree.

use core::fmt;
use std::collections::{BTreeMap, HashSet};

/// The first line of a dump.
const HEADER: &[u8] = b"go1.4 heap dump\n";
/// Words in the memory statistics before the pauses.
const STATS: usize = 24;
/// Pauses in the memory statistics.
const PAUSES: usize = 256;

/// What is wrong with a dump, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadDump {
    /// Offset in the file.
    pub offset: usize,
    /// The record that begins before it.
    pub record: &'static str,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for BadDump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {} in the {} record: {}", self.offset, self.record, self.what)
    }
}

impl core::error::Error for BadDump {}

/// A block of the heap.
#[derive(Clone, Debug)]
pub struct Object {
    /// Bytes.
    pub size: u64,
    /// Words that point to objects.
    pub pointers: usize,
}

/// A goroutine.
#[derive(Clone, Debug, Default)]
pub struct Goroutine {
    /// Its number.
    pub goid: u64,
    /// 1 runnable, 3 in a system call, 4 waiting.
    pub status: u64,
    /// What it waits for.
    pub wait_reason: String,
    /// Names of its functions, the last call first.
    pub frames: Vec<String>,
    /// Address of its last frame.
    bottom: u64,
    /// Address of the frame that was read last.
    last: u64,
}

/// A dump.
#[derive(Clone, Debug, Default)]
pub struct Dump {
    /// Live blocks by address.
    pub objects: BTreeMap<u64, Object>,
    /// All goroutines.
    pub goroutines: Vec<Goroutine>,
    /// OS threads.
    pub threads: usize,
    /// Memory statistics: 24 numbers, 256 pauses, the number of stops.
    pub stats: Vec<u64>,
    /// Bytes in the data and in the bss segment.
    pub segments: [Option<u64>; 2],
    heap: Option<(u64, u64)>,
}

/// Reads a whole dump.
///
/// # Errors
///
/// The first thing that is wrong.
pub fn read(bytes: &[u8]) -> Result<Dump, BadDump> {
    let mut reader = Reader { bytes, offset: 0, record: "header" };
    if reader.take(HEADER.len() as u64)? != HEADER {
        return Err(reader.bad("it does not begin with `go1.4 heap dump`"));
    }
    let mut dump = Dump::default();
    while reader.record(&mut dump)? != "end" {}
    if reader.offset != bytes.len() {
        return Err(reader.bad("bytes follow the end"));
    }
    reader.whole(&dump)?;
    Ok(dump)
}

struct Reader<'b> {
    bytes: &'b [u8],
    offset: usize,
    record: &'static str,
}

impl Reader<'_> {
    fn bad(&self, what: impl Into<String>) -> BadDump {
        BadDump { offset: self.offset, record: self.record, what: what.into() }
    }

    fn take(&mut self, count: u64) -> Result<&[u8], BadDump> {
        let end = usize::try_from(count).ok().and_then(|count| self.offset.checked_add(count));
        let Some(end) = end.filter(|end| *end <= self.bytes.len()) else {
            return Err(self.bad(format!("the file ends before {count} more bytes")));
        };
        let part = &self.bytes[self.offset..end];
        self.offset = end;
        Ok(part)
    }

    fn number(&mut self) -> Result<u64, BadDump> {
        let mut number = 0_u64;
        for shift in (0..).step_by(7) {
            let byte = self.take(1)?[0];
            let part = u64::from(byte & 0x7f);
            if shift > 63 || part.checked_shl(shift).is_none_or(|shifted| shifted >> shift != part) {
                return Err(self.bad("a number of more than 64 bits"));
            }
            number |= part << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        Ok(number)
    }

    fn numbers<const N: usize>(&mut self) -> Result<[u64; N], BadDump> {
        let mut numbers = [0; N];
        for number in &mut numbers {
            *number = self.number()?;
        }
        Ok(numbers)
    }

    fn flag(&mut self) -> Result<bool, BadDump> {
        match self.number()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.bad(format!("{other} is no truth value"))),
        }
    }

    fn string(&mut self) -> Result<String, BadDump> {
        let length = self.number()?;
        let text = self.take(length)?.to_vec();
        String::from_utf8(text).map_err(|_| self.bad("a string that is not UTF-8"))
    }

    /// Contents and pointer fields: length, and how many there are.
    fn memory(&mut self) -> Result<u64, BadDump> {
        let length = self.number()?;
        self.take(length)?;
        Ok(length)
    }

    fn pointers(&mut self, length: u64) -> Result<usize, BadDump> {
        let (mut count, mut after) = (0, 0);
        loop {
            match self.number()? {
                0 => return Ok(count),
                kind @ 1..=3 => {
                    let offset = self.number()?;
                    let size = if kind == 1 { 8 } else { 16 };
                    if offset < after || offset % 8 != 0 || offset + size > length {
                        return Err(
                            self.bad(format!("a pointer at {offset} of {length} bytes, after {after}"))
                        );
                    }
                    (count, after) = (count + 1, offset + size);
                }
                kind => return Err(self.bad(format!("a field of kind {kind}"))),
            }
        }
    }

    /// Reads one record and says what it was.
    fn record(&mut self, dump: &mut Dump) -> Result<&'static str, BadDump> {
        self.record = "next";
        let tag = self.number()?;
        self.record = match tag {
            0 => "end",
            1 => "object",
            4 => "goroutine",
            5 => "stack frame",
            6 => "parameter",
            9 => "OS thread",
            10 => "memory statistics",
            12 => "data segment",
            13 => "bss segment",
            other => {
                return Err(self.bad(format!("a record of kind {other}, which the kernel does not write")));
            }
        };
        match tag {
            1 => self.object(dump)?,
            4 => self.goroutine(dump)?,
            5 => self.frame(dump)?,
            6 => self.params(dump)?,
            9 => {
                let [_, _, _] = self.numbers()?;
                dump.threads += 1;
            }
            10 => {
                if !dump.stats.is_empty() {
                    return Err(self.bad("it comes twice"));
                }
                dump.stats = (0..=STATS + PAUSES).map(|_| self.number()).collect::<Result<_, _>>()?;
            }
            12 => self.segment(dump, 0)?,
            13 => self.segment(dump, 1)?,
            _ => {}
        }
        Ok(self.record)
    }

    fn params(&mut self, dump: &mut Dump) -> Result<(), BadDump> {
        let big_endian = self.flag()?;
        let [pointer, start, end, _] = self.numbers()?;
        self.string()?;
        let cpus = self.number()?;
        if big_endian || pointer != 8 || start >= end || cpus == 0 || dump.heap.is_some() {
            return Err(self.bad("no parameters of a little-endian 64-bit machine, or given twice"));
        }
        dump.heap = Some((start, end));
        Ok(())
    }

    fn object(&mut self, dump: &mut Dump) -> Result<(), BadDump> {
        let address = self.number()?;
        let size = self.memory()?;
        let pointers = self.pointers(size)?;
        let inside = dump.heap.is_some_and(|(start, end)| start <= address && address + size <= end);
        if !inside || size == 0 {
            return Err(self.bad(format!("{size} bytes at {address:#x} are not in the heap")));
        }
        let below = dump.objects.range(..=address).next_back();
        let above = dump.objects.range(address..).next();
        if below.is_some_and(|(start, other)| start + other.size > address)
            || above.is_some_and(|(start, _)| address + size > *start)
        {
            return Err(self.bad(format!("{size} bytes at {address:#x} overlap another object")));
        }
        dump.objects.insert(address, Object { size, pointers });
        Ok(())
    }

    fn goroutine(&mut self, dump: &mut Dump) -> Result<(), BadDump> {
        self.frames_are_whole(dump)?;
        let [_, bottom, goid, _, status] = self.numbers()?;
        let (_system, _background) = (self.flag()?, self.flag()?);
        self.number()?;
        let wait_reason = self.string()?;
        let [_, _, _, _] = self.numbers()?;
        if !matches!(status, 1 | 3 | 4) {
            return Err(self.bad(format!("goroutine {goid} has the status {status}")));
        }
        if status == 4 && wait_reason.is_empty() {
            return Err(self.bad(format!("goroutine {goid} waits for nothing")));
        }
        let last = 0;
        dump.goroutines.push(Goroutine { goid, status, wait_reason, bottom, last, ..Goroutine::default() });
        Ok(())
    }

    fn frame(&mut self, dump: &mut Dump) -> Result<(), BadDump> {
        let [address, depth, child] = self.numbers()?;
        let size = self.memory()?;
        let [_, pc, _] = self.numbers()?;
        let name = self.string()?;
        self.pointers(size)?;
        let Some(g) = dump.goroutines.last_mut() else {
            return Err(self.bad("it belongs to no goroutine"));
        };
        let chained =
            if depth == 0 { address == g.bottom && child == 0 } else { child == g.last && address >= child };
        if !chained || depth != g.frames.len() as u64 || name.is_empty() {
            let goid = g.goid;
            return Err(self.bad(format!(
                "`{name}` at {address:#x}, depth {depth}, pc {pc:#x}, does not follow the \
                frame before it in goroutine {goid}"
            )));
        }
        g.last = address;
        g.frames.push(name);
        Ok(())
    }

    fn segment(&mut self, dump: &mut Dump, which: usize) -> Result<(), BadDump> {
        self.number()?;
        let size = self.memory()?;
        self.pointers(size)?;
        match dump.segments[which].replace(size) {
            None => Ok(()),
            Some(_) => Err(self.bad("it comes twice")),
        }
    }

    /// Whether the goroutine before has a frame.
    fn frames_are_whole(&self, dump: &Dump) -> Result<(), BadDump> {
        match dump.goroutines.last() {
            Some(g) if g.frames.is_empty() => Err(self.bad(format!("goroutine {} has no frame", g.goid))),
            _ => Ok(()),
        }
    }

    /// What has to be there at the end.
    fn whole(&self, dump: &Dump) -> Result<(), BadDump> {
        self.frames_are_whole(dump)?;
        let mut seen = HashSet::new();
        if let Some(g) = dump.goroutines.iter().find(|g| !seen.insert(g.goid)) {
            return Err(self.bad(format!("goroutine {} comes twice", g.goid)));
        }
        let missing = [
            ("parameters", dump.heap.is_none()),
            ("goroutines", dump.goroutines.is_empty()),
            ("OS threads", dump.threads == 0),
            ("memory statistics", dump.stats.is_empty()),
            ("a data segment", dump.segments[0].is_none()),
            ("a bss segment", dump.segments[1].is_none()),
        ];
        match missing.iter().find(|(_, missing)| *missing) {
            Some((what, _)) => Err(self.bad(format!("the dump has no {what}"))),
            None => self.agrees(dump),
        }
    }

    /// The statistics count what the dump holds: `HeapAlloc` and `HeapObjects`.
    fn agrees(&self, dump: &Dump) -> Result<(), BadDump> {
        let bytes: u64 = dump.objects.values().map(|object| object.size).sum();
        let (said_bytes, said_objects) = (dump.stats[6], dump.stats[11]);
        if (bytes, dump.objects.len() as u64) == (said_bytes, said_objects) {
            return Ok(());
        }
        Err(self.bad(format!(
            "{} objects of {bytes} bytes, and the statistics count {said_objects} of {said_bytes}",
            dump.objects.len()
        )))
    }
}

#[cfg(test)]
mod tests {
    use heapdump::{Frame, Goroutine, Params, STATS, Segment, Sink, Status, Thread, Writer};

    use super::read;

    struct Kept(Vec<u8>);

    impl Sink for Kept {
        type Error = core::convert::Infallible;

        fn write(&mut self, bytes: &[u8]) -> Result<(), Self::Error> {
            self.0.extend(bytes);
            Ok(())
        }
    }

    /// A small dump by the kernel's writer: two objects, two goroutines.
    fn written() -> Vec<u8> {
        let mut writer = Writer::new(Kept(Vec::new())).expect("no error");
        let mut write = || {
            writer.params(&Params {
                heap: (0x1000, 0x2000),
                architecture: b'6',
                experiment: "x",
                cpus: 2,
            })?;
            writer.object(0x1000, [0x1040, 7].into_iter(), |word| word == 0x1040)?;
            writer.object(0x1040, [1, 2, 3, 4].into_iter(), |_| false)?;
            for (goid, status, wait_reason) in [(1, Status::Runnable, ""), (2, Status::Waiting, "park")] {
                let frame = 0x9000 + goid * 0x100;
                let (address, wait_since, thread) = (goid, 0, 0);
                writer.goroutine(&Goroutine {
                    address,
                    frame,
                    goid,
                    status,
                    wait_since,
                    wait_reason,
                    thread,
                })?;
                let entry = 5;
                let first = Frame { address: frame, depth: 0, child: 0, entry, pc: 6, name: "inner" };
                writer.frame(&first, [0x1000].into_iter(), |_| true)?;
                let second =
                    Frame { address: frame + 8, depth: 1, child: frame, entry, pc: 6, name: "outer" };
                writer.frame(&second, [].into_iter(), |_| true)?;
            }
            writer.thread(Thread { address: 1, id: 0, os_id: 0 })?;
            let mut stats = [0; STATS];
            (stats[6], stats[11]) = (48, 2);
            writer.mem_stats(&stats, [], 3)?;
            writer.segment(Segment::Data, 0x10, [0x1000].into_iter(), |_| true)?;
            writer.segment(Segment::Bss, 0x20, [0].into_iter(), |_| false)
        };
        write().expect("no error");
        writer.end().expect("no error").0
    }

    #[test]
    fn what_the_kernel_writes_is_read() {
        let dump = read(&written()).expect("a good dump");
        assert_eq!(dump.objects.keys().copied().collect::<Vec<_>>(), [0x1000, 0x1040]);
        assert_eq!(dump.objects[&0x1000].pointers, 1);
        let goroutines: Vec<_> = dump
            .goroutines
            .iter()
            .map(|g| (g.goid, g.status, g.wait_reason.as_str(), g.frames.len()))
            .collect();
        assert_eq!(goroutines, [(1, 1, "", 2), (2, 4, "park", 2)]);
        assert_eq!((dump.threads, dump.segments), (1, [Some(8), Some(8)]));
    }

    #[test]
    fn every_truncation_is_noticed() {
        let whole = written();
        for length in 0..whole.len() {
            let error = read(&whole[..length]).expect_err("it is not whole");
            assert!(error.offset <= length, "{error}");
        }
        let error = read(&[&whole[..], &[0]].concat()).expect_err("it is too long");
        assert_eq!(
            error.to_string(),
            format!("at byte {} in the end record: bytes follow the end", whole.len())
        );
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let whole = written();
        let broken = |from: &[u8], to: &[u8]| {
            let at = whole.windows(from.len()).position(|part| part == from).expect("it is there");
            let mut bytes = whole.clone();
            bytes[at..at + from.len()].copy_from_slice(to);
            read(&bytes).expect_err("broken").what
        };
        assert!(broken(b"go1.4", b"go1.5").contains("does not begin"));
        // The second object, moved into the first.
        assert!(broken(&[1, 0xc0, 0x20, 32], &[1, 0x88, 0x20, 32]).contains("overlap"));
        // A wait reason that is gone, and a status that does not exist.
        assert!(broken(&[2, 0, 4, 0, 0, 0, 4], &[2, 0, 7, 0, 0, 0, 4]).contains("status 7"));
        // The number of objects in the statistics.
        assert!(broken(&[48, 0, 0, 0, 0, 2], &[48, 0, 0, 0, 0, 3]).contains("count 3 of 48"));
    }

    #[test]
    fn endless_numbers_are_refused() {
        let bytes = [super::HEADER, &[0xff; 11]].concat();
        assert!(read(&bytes).expect_err("too long").what.contains("64 bits"));
    }
}
