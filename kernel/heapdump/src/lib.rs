//! Writes the "go1.4 heap dump" format, record by record, without allocation.
//!
//! The format is that of Go's wiki page `heapdump14`. After a line that names it come records: a tag, and fields that are
//! unsigned numbers of variable length, strings and lists of pointer fields. [`Writer`] has a method for each kind of
//! record that a kernel without types, finalizers, deferred calls and a profile has something to put into; the tags of
//! the others are listed at [`Tag`] and not written.
//!
//! # What readers demand
//!
//! 1. Parameters come first: the size of a pointer is needed to read objects.
//! 2. There is one data and one bss segment.
//! 3. Every goroutine has a frame of depth 0 at the address that its record names; a frame of depth n + 1 names the address
//!    of that of depth n as its child. Address and depth together are unique.
//! 4. Objects lie in the heap's bounds as the parameters give them, and do not overlap.
//! 5. The end is the record [`Tag::Eof`], and nothing follows.
//!
//! Contents are given as words, by an iterator that is gone through twice: once to write them, once to find the words
//! that are pointers, which the caller decides.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate alloc;

/// The first line.
pub const HEADER: &[u8] = b"go1.4 heap dump\n";

/// Bytes that are gathered before the sink is called.
const BUFFER: usize = 256;
/// Bytes in a word.
const WORD: u64 = 8;

/// Kinds of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Tag {
    /// The end.
    Eof = 0,
    /// A block of the heap.
    Object = 1,
    /// A root that is none of the others. Not written.
    OtherRoot = 2,
    /// A type. Not written: there are none at run time.
    Type = 3,
    /// A goroutine.
    Goroutine = 4,
    /// A frame on a goroutine's stack.
    Frame = 5,
    /// Properties of the machine.
    Params = 6,
    /// Not written.
    Finalizer = 7,
    /// Not written.
    Itab = 8,
    /// An OS thread: here a CPU.
    Thread = 9,
    /// Memory statistics.
    MemStats = 10,
    /// Not written.
    QueuedFinalizer = 11,
    /// Initialised data.
    Data = 12,
    /// Zeroed data.
    Bss = 13,
    /// Not written.
    Defer = 14,
    /// Not written.
    Panic = 15,
    /// Not written.
    MemProf = 16,
    /// Not written.
    AllocSample = 17,
}

/// Takes the bytes of a dump.
pub trait Sink {
    /// Why it cannot.
    type Error;

    /// Takes all of these bytes.
    ///
    /// # Errors
    /// Whatever the device says; the dump ends there.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;
}

/// The status of a goroutine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// It waits for a CPU, or was stopped on one and will go on by itself.
    Runnable = 1,
    /// It waits for somebody.
    Waiting = 4,
}

/// Properties of the machine.
#[derive(Debug, Clone, Copy)]
pub struct Params<'a> {
    /// Bounds of the heap.
    pub heap: (u64, u64),
    /// The architecture, by the character of its Go compiler: `6` for x86-64.
    pub architecture: u8,
    /// What makes this dump special.
    pub experiment: &'a str,
    /// CPUs.
    pub cpus: u64,
}

/// A goroutine.
#[derive(Debug, Clone, Copy)]
pub struct Goroutine<'a> {
    /// Address of its descriptor.
    pub address: u64,
    /// Address of its frame of depth 0.
    pub frame: u64,
    /// Its number.
    pub goid: u64,
    /// What it does.
    pub status: Status,
    /// When it began to wait, in nanoseconds.
    pub wait_since: u64,
    /// What it waits for.
    pub wait_reason: &'a str,
    /// Address of the thread that runs it; 0 for none.
    pub thread: u64,
}

/// A frame on a goroutine's stack.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Its lowest address.
    pub address: u64,
    /// Calls below it.
    pub depth: u64,
    /// Address of the frame that it has called; 0 at depth 0.
    pub child: u64,
    /// Where the function begins.
    pub entry: u64,
    /// Where it goes on.
    pub pc: u64,
    /// The function's name.
    pub name: &'a str,
}

/// An OS thread.
#[derive(Debug, Clone, Copy)]
pub struct Thread {
    /// Address of its descriptor.
    pub address: u64,
    /// Its number.
    pub id: u64,
    /// What the machine calls it.
    pub os_id: u64,
}

/// Which segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    /// Initialised data.
    Data,
    /// Zeroed data.
    Bss,
}

/// Memory statistics: the fields of Go's `MemStats` up to `PauseTotalNs`, in their order.
pub const STATS: usize = 24;
/// Pauses that follow them.
pub const PAUSES: usize = 256;

/// Writes a dump.
#[derive(Debug)]
pub struct Writer<S: Sink> {
    sink: S,
    buffer: [u8; BUFFER],
    used: usize,
}

impl<S: Sink> Writer<S> {
    /// Begins a dump.
    ///
    /// # Errors
    /// Here and below, what the sink says.
    pub fn new(sink: S) -> Result<Self, S::Error> {
        let mut writer = Self { sink, buffer: [0; BUFFER], used: 0 };
        writer.bytes(HEADER)?;
        Ok(writer)
    }

    /// The properties of the machine; the first record.
    pub fn params(&mut self, params: &Params<'_>) -> Result<(), S::Error> {
        self.tag(Tag::Params)?;
        // Little-endian, and the size of a pointer.
        self.numbers(&[0, WORD, params.heap.0, params.heap.1])?;
        self.number(params.architecture.into())?;
        self.string(params.experiment)?;
        self.number(params.cpus)
    }

    /// A block of the heap.
    pub fn object<I>(
        &mut self,
        address: u64,
        words: I,
        is_pointer: impl FnMut(u64) -> bool,
    ) -> Result<(), S::Error>
    where
        I: ExactSizeIterator<Item = u64> + Clone,
    {
        self.tag(Tag::Object)?;
        self.number(address)?;
        self.contents(words.clone())?;
        self.pointers(words, is_pointer)
    }

    /// A goroutine; its frames follow.
    pub fn goroutine(&mut self, g: &Goroutine<'_>) -> Result<(), S::Error> {
        self.tag(Tag::Goroutine)?;
        // The place of the `go` statement is not known; it is no system goroutine and none of the background.
        self.numbers(&[g.address, g.frame, g.goid, 0, g.status as u64, 0, 0, g.wait_since])?;
        self.string(g.wait_reason)?;
        // Context, thread, deferred call, panic.
        self.numbers(&[0, g.thread, 0, 0])
    }

    /// A frame of the goroutine before.
    pub fn frame<I>(
        &mut self,
        frame: &Frame<'_>,
        words: I,
        is_pointer: impl FnMut(u64) -> bool,
    ) -> Result<(), S::Error>
    where
        I: ExactSizeIterator<Item = u64> + Clone,
    {
        self.tag(Tag::Frame)?;
        self.numbers(&[frame.address, frame.depth, frame.child])?;
        self.contents(words.clone())?;
        // Where it would go on after a panic is where it goes on.
        self.numbers(&[frame.entry, frame.pc, frame.pc])?;
        self.string(frame.name)?;
        self.pointers(words, is_pointer)
    }

    /// A thread.
    pub fn thread(&mut self, thread: Thread) -> Result<(), S::Error> {
        self.tag(Tag::Thread)?;
        self.numbers(&[thread.address, thread.id, thread.os_id])
    }

    /// Memory statistics. Pauses beyond those that are given are 0.
    pub fn mem_stats(
        &mut self,
        stats: &[u64; STATS],
        pauses: impl IntoIterator<Item = u64>,
        stops: u64,
    ) -> Result<(), S::Error> {
        self.tag(Tag::MemStats)?;
        self.numbers(stats)?;
        let pauses = pauses.into_iter().chain(core::iter::repeat(0)).take(PAUSES);
        pauses.into_iter().try_for_each(|pause| self.number(pause))?;
        self.number(stops)
    }

    /// A segment of the program.
    pub fn segment<I>(
        &mut self,
        segment: Segment,
        address: u64,
        words: I,
        is_pointer: impl FnMut(u64) -> bool,
    ) -> Result<(), S::Error>
    where
        I: ExactSizeIterator<Item = u64> + Clone,
    {
        self.tag(if segment == Segment::Data { Tag::Data } else { Tag::Bss })?;
        self.number(address)?;
        self.contents(words.clone())?;
        self.pointers(words, is_pointer)
    }

    /// Ends the dump and gives the sink back.
    pub fn end(mut self) -> Result<S, S::Error> {
        self.tag(Tag::Eof)?;
        self.flush()?;
        Ok(self.sink)
    }

    fn tag(&mut self, tag: Tag) -> Result<(), S::Error> {
        self.number(tag as u64)
    }

    fn numbers(&mut self, numbers: &[u64]) -> Result<(), S::Error> {
        numbers.iter().try_for_each(|number| self.number(*number))
    }

    /// Seven bits a byte, the lowest first; the top bit says that more follow.
    fn number(&mut self, mut number: u64) -> Result<(), S::Error> {
        loop {
            let [low, ..] = number.to_le_bytes();
            number >>= 7;
            if number == 0 {
                return self.bytes(&[low & 0x7f]);
            }
            self.bytes(&[low | 0x80])?;
        }
    }

    fn string(&mut self, text: &str) -> Result<(), S::Error> {
        self.number(text.len() as u64)?;
        self.bytes(text.as_bytes())
    }

    fn contents(&mut self, words: impl ExactSizeIterator<Item = u64>) -> Result<(), S::Error> {
        self.number(words.len() as u64 * WORD)?;
        words.into_iter().try_for_each(|word| self.bytes(&word.to_le_bytes()))
    }

    /// Kind 1 and offset of each word that is a pointer, and the end.
    fn pointers(
        &mut self,
        words: impl Iterator<Item = u64>,
        mut is_pointer: impl FnMut(u64) -> bool,
    ) -> Result<(), S::Error> {
        for (word, place) in words.zip(0..) {
            if is_pointer(word) {
                self.numbers(&[1, place * WORD])?;
            }
        }
        self.number(0)
    }

    fn bytes(&mut self, mut bytes: &[u8]) -> Result<(), S::Error> {
        while let Some((part, rest)) = bytes.split_at_checked((BUFFER - self.used).min(bytes.len())) {
            self.buffer[self.used..self.used + part.len()].copy_from_slice(part);
            self.used += part.len();
            bytes = rest;
            if bytes.is_empty() {
                break;
            }
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), S::Error> {
        let used = core::mem::take(&mut self.used);
        self.sink.write(&self.buffer[..used])
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::{Frame, Goroutine, HEADER, Params, Segment, Sink, Status, Thread, Writer};

    /// Keeps all bytes, up to a limit.
    struct Kept(Vec<u8>, usize);

    impl Sink for Kept {
        type Error = &'static str;

        fn write(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
            self.0.extend(bytes);
            if self.0.len() > self.1 { Err("full") } else { Ok(()) }
        }
    }

    fn written(records: impl FnOnce(&mut Writer<Kept>) -> Result<(), &'static str>) -> Vec<u8> {
        let mut writer = Writer::new(Kept(Vec::new(), usize::MAX)).expect("room");
        records(&mut writer).expect("room");
        writer.end().expect("room").0
    }

    #[test]
    fn an_empty_dump_is_a_header_and_an_end() {
        assert_eq!(written(|_| Ok(())), [HEADER, &[0]].concat());
    }

    #[test]
    fn numbers_are_as_long_as_they_have_to_be() {
        let dump = written(|writer| writer.thread(Thread { address: 0x7f, id: 0x80, os_id: u64::MAX }));
        let numbers = [&[9, 0x7f, 0x80, 1][..], &[0xff; 9], &[1]].concat();
        assert_eq!(dump, [HEADER, &numbers, &[0]].concat());
    }

    #[test]
    fn records_have_their_fields_in_order() {
        let words = [1_u64, 0x1000, 3];
        let dump = written(|writer| {
            let params = Params { heap: (16, 32), architecture: b'6', experiment: "", cpus: 2 };
            writer.params(&params)?;
            writer.object(16, words.into_iter(), |word| word == 0x1000)
        });
        let params = [&[6, 0, 8, 16, 32, b'6'][..], &[0, 2]].concat();
        let contents = words.map(u64::to_le_bytes).concat();
        let object = [&[1, 16, 24][..], &contents, &[1, 8, 0]].concat();
        assert_eq!(dump, [HEADER, &params, &object, &[0]].concat());
    }

    #[test]
    fn a_goroutine_comes_with_its_frames() {
        let dump = written(|writer| {
            writer.goroutine(&Goroutine {
                address: 1,
                frame: 2,
                goid: 3,
                status: Status::Waiting,
                wait_since: 5,
                wait_reason: "park",
                thread: 6,
            })?;
            let frame = Frame { address: 2, depth: 0, child: 0, entry: 7, pc: 8, name: "f" };
            writer.frame(&frame, [9].into_iter(), |_| false)
        });
        let goroutine = [&[4, 1, 2, 3, 0, 4, 0, 0, 5, 4][..], b"park", &[0, 6, 0, 0]].concat();
        let frame = [&[5, 2, 0, 0, 8][..], &9_u64.to_le_bytes(), &[7, 8, 8, 1, b'f', 0]].concat();
        assert_eq!(dump, [HEADER, &goroutine, &frame, &[0]].concat());
    }

    #[test]
    fn statistics_have_all_pauses_and_segments_their_tags() {
        let dump = written(|writer| {
            writer.mem_stats(&[1; 24], [2, 3], 4)?;
            writer.segment(Segment::Data, 5, [].into_iter(), |_| true)?;
            writer.segment(Segment::Bss, 6, [].into_iter(), |_| true)
        });
        let stats = [&[10][..], &[1; 24], &[2, 3], &[0; 254], &[4]].concat();
        assert_eq!(dump, [HEADER, &stats, &[12, 5, 0, 0], &[13, 6, 0, 0], &[0]].concat());
    }

    #[test]
    fn what_the_sink_says_ends_the_dump() {
        let mut writer = Writer::new(Kept(Vec::new(), 1_000)).expect("room");
        let words = core::iter::repeat_n(7, 1_000);
        assert_eq!(writer.object(8, words, |_| false), Err("full"));
    }
}
