//! A dump of the heap, with all goroutines, in a stopped world: Go's `debug.WriteHeapDump`, in the documented
//! "go1.4 heap dump" format.
//!
//! | record | is |
//! |---|---|
//! | parameters | the heap's arena, CPUs |
//! | object | each live block of the heap, once; its size is that of its class |
//! | goroutine, frames | each living goroutine |
//! | OS thread | a CPU |
//! | data, bss | the program's writable segments |
//! | memory statistics | [`crate::MemStats`], as far as fields have the same meaning; the others are 0 |
//!
//! There are no types at run time, so **pointers are found conservatively**: every aligned word of an object, a frame or a
//! segment whose value lies in a live block of the heap is a pointer field. A number that happens to look like one
//! keeps a block reachable in a reader that should not be.
//!
//! The statuses that the format has are fewer than ours: a goroutine that was held on a CPU goes on by itself and is
//! *runnable*, like one in a queue; the one that dumps is *waiting*, for "dumping heap". A frame's entry address is
//! that of its function where it is known.
//!
//! Nothing is allocated: the dump goes out through a small buffer, word by word, and memory is read where it is. Words of
//! pages that were never touched are 0.

use heapdump::{Frame, Goroutine, Params, STATS, Segment, Sink, Status, Thread, Writer};
use machine::backtrace::Start;
use machine::heap::class::Class;
use machine::heap::{arena_bounds, stats as heap_stats};
use machine::percpu::Pinned;
use machine::{heap, paging, symbol};

use crate::fd::{self, FdError};
use crate::m::{self, M};
use crate::os_memory;
use crate::park::{Wait, WaitReason};
use crate::runtime::Runtime;
use crate::stacks::{check_g_stack, on_m};
use crate::trace::{self, GoroutineInfo, State};
use crate::world::{StopReason, stop_the_world};

/// Why a dump could not be written.
pub type DumpError = FdError;

/// A descriptor as the place where a dump goes.
struct ToFd(u32);

impl Sink for ToFd {
    type Error = FdError;

    fn write(&mut self, bytes: &[u8]) -> Result<(), FdError> {
        fd::write(self.0, bytes)
    }
}

/// Stops the world and writes a heap dump to `fd`: 1 and 2 are the console, others come from [`fd::open`]. Go's
/// `debug.WriteHeapDump`.
///
/// Takes as long as the device does, and nothing else runs meanwhile.
///
/// ```
/// use gzero::{DumpError, fd, write_heap_dump};
///
/// write_heap_dump(fd::open("null")?)?;
/// assert_eq!(write_heap_dump(77), Err(DumpError::BadFd(77)));
/// Ok::<(), DumpError>(())
/// ```
///
/// # Errors
/// [`DumpError`] when there is no such descriptor, or nothing is written to it; the world is not stopped then.
///
/// # Throws
/// When not called on a goroutine's own stack; what [`stop_the_world`] throws.
#[track_caller]
#[inline(never)]
pub fn write_heap_dump(fd: u32) -> Result<(), DumpError> {
    check_g_stack("write_heap_dump");
    fd::check(fd)?;
    let world = stop_the_world(StopReason::WriteHeapDump);
    let rt = m::runtime();
    let pinned = Pinned::new();
    let m = m::current(&pinned);
    // This goroutine stands here for the dump, as the others do where they were stopped.
    let wait = Wait { reason: WaitReason::DumpingHeap, on: 0, since: machine::clock::rdtsc_unordered() };
    rt.slot(m::current_g(m)).body().set_wait(wait);
    m.stand(Start::caller());
    let result = on_m(|| dump(rt, m, fd));
    m.go_on();
    drop(world);
    result
}

/// Writes all records, in a stopped world, on the kernel stack.
fn dump(rt: &'static Runtime, me: &M, fd: u32) -> Result<(), FdError> {
    let mut writer = Writer::new(ToFd(fd))?;
    writer.params(&Params {
        heap: arena_bounds(),
        architecture: b'6',
        experiment: "gzero",
        cpus: rt.ms.len() as u64,
    })?;
    // Each word that may be an address is looked up: while all magazines are empty that is quick.
    os_memory::settle_heap();
    let mut result = Ok(());
    heap::for_each_live(|start, size| {
        if result.is_ok() {
            result = writer.object(start, words(start, start + size), is_pointer);
        }
    });
    result?;
    goroutines(&mut writer, me)?;
    for m in &rt.ms {
        let (id, apic_id) = (m.block.id().0, m.block.apic_id());
        writer.thread(Thread { address: address_of(m), id: id.into(), os_id: apic_id.into() })?;
    }
    for (segment, range) in [Segment::Data, Segment::Bss].into_iter().zip(symbol::writable()) {
        writer.segment(segment, range.start, words(range.start, range.end), is_pointer)?;
    }
    mem_stats(&mut writer, rt)?;
    writer.end().map(drop)
}

/// All goroutines with their frames.
fn goroutines(writer: &mut Writer<ToFd>, me: &M) -> Result<(), FdError> {
    let mut result = Ok(());
    trace::for_each_goroutine(&mut |info| {
        if result.is_ok() {
            result = goroutine(writer, me, info);
        }
    });
    result
}

fn goroutine(writer: &mut Writer<ToFd>, me: &M, info: &GoroutineInfo) -> Result<(), FdError> {
    let dumps = info.is_current(me);
    let (status, wait_since, wait_reason) = match info.state {
        State::Waiting { reason, since, .. } => (Status::Waiting, since.0, reason),
        State::Running(_) if dumps => (Status::Waiting, info.last_wait().0, WaitReason::DumpingHeap.name()),
        State::Running(_) | State::Runnable => (Status::Runnable, 0, ""),
    };
    let mut first = None;
    trace::for_each_frame(info, &mut |frame| first = first.or(Some(low(&frame))));
    // One whose stack cannot be walked has an empty frame: readers want one for each.
    let bottom = first.unwrap_or(info.stack.end);
    writer.goroutine(&Goroutine {
        address: info.address(),
        frame: bottom,
        goid: info.goid.get(),
        status,
        wait_since,
        wait_reason,
        thread: info.cpu().map_or(0, address_of),
    })?;
    if first.is_none() {
        let frame = Frame { address: bottom, depth: 0, child: 0, entry: 0, pc: 0, name: "unknown" };
        return writer.frame(&frame, words(bottom, bottom), is_pointer);
    }
    let (mut child, mut result) = (0, Ok(()));
    trace::for_each_frame(info, &mut |frame| {
        if result.is_ok() {
            result = self::frame(writer, &frame, child);
            child = low(&frame);
        }
    });
    result
}

fn frame(writer: &mut Writer<ToFd>, frame: &trace::Frame, child: u64) -> Result<(), FdError> {
    let symbol = frame.symbol();
    let record = Frame {
        address: low(frame),
        depth: frame.depth().into(),
        child,
        entry: symbol.map_or(0, |symbol| frame.pc() - symbol.offset),
        pc: frame.pc(),
        name: symbol.map_or("unknown", |symbol| symbol.name),
    };
    writer.frame(&record, words(record.address, frame.stack().end), is_pointer)
}

/// The first word of a frame: an interrupted stack pointer can be anything.
fn low(frame: &trace::Frame) -> u64 {
    frame.stack().start.next_multiple_of(8)
}

/// What the format has of Go's `MemStats`: 24 numbers, in their order, and the pauses.
fn mem_stats(writer: &mut Writer<ToFd>, rt: &Runtime) -> Result<(), FdError> {
    let heap = heap_stats::heap();
    let (mut mallocs, mut frees) = (heap_stats::large().mallocs, heap_stats::large().frees);
    for class in Class::all().map(heap_stats::class) {
        (mallocs, frees) = (mallocs + class.mallocs, frees + class.frees);
    }
    let (stack_inuse, stack_sys) = crate::idle_stacks::bytes(rt);
    let other = crate::mem_stats::other_bytes();
    let sys = heap.sys + stack_sys + heap.metadata + other;
    let idle = heap.sys - heap.in_use;
    let stops = rt.stops.lock();
    let total = stops.total_pause();
    let numbers: [u64; STATS] = [
        // Alloc, TotalAlloc, Sys, Lookups, Mallocs, Frees.
        [heap.live, heap.total, sys, 0, mallocs, frees],
        // HeapAlloc, HeapSys, HeapIdle, HeapInuse, HeapReleased, HeapObjects.
        [heap.live, heap.sys, idle, heap.in_use, heap.released, heap.objects],
        // StackInuse, StackSys, MSpanInuse, MSpanSys, MCacheInuse, MCacheSys.
        [stack_inuse, stack_sys, heap.metadata, heap.metadata, 0, 0],
        // BuckHashSys, GCSys, OtherSys, NextGC, LastGC, PauseTotalNs.
        [0, 0, other, 0, 0, total],
    ]
    .as_flattened()
    .try_into()
    .unwrap_or([0; STATS]);
    writer.mem_stats(&numbers, stops.lengths(), stops.count())
}

/// The words of a range of addresses, 0 where nothing is mapped.
fn words(start: u64, end: u64) -> impl ExactSizeIterator<Item = u64> + Clone {
    let count = usize::try_from(end.saturating_sub(start) / 8).unwrap_or(0);
    (0..count).map(move |word| paging::peek(start + 8 * word as u64).unwrap_or(0))
}

/// Whether a word is the address of something in a live block.
fn is_pointer(word: u64) -> bool {
    heap::block_of(word).is_some()
}

fn address_of<T>(value: &T) -> u64 {
    core::ptr::from_ref(value).addr() as u64
}
