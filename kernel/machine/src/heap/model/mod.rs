//! Magazines, lists and spans together, against a plain map of what is handed out; CPUs are caches, or threads.
//!
//! Programs are rows of numbers: proptest makes short ones, and shrinks those that fail; a seeded soak runs long ones; a fuzzer looks
//! for those that reach code which others do not (`kernel/machine/fuzz`).

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::alloc::Layout;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use super::class::{CLASSES, Class};
use super::list::{ClassList, Home, Lists};
use super::magazine::{Cache, Flushed};
use super::span::{Span, State};
use super::tables::host::Host;
use super::tables::{Number, Tables};

const PAGE: u64 = 4096;
const PAGES: usize = if cfg!(miri) { 128 } else { 2_048 };
const START: u64 = 0x40_0000;
const CPUS: usize = 4;

fn index(number: u64) -> usize {
    usize::try_from(number).expect("small")
}

fn sorted(numbers: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut numbers: Vec<u64> = numbers.collect();
    numbers.sort_unstable();
    numbers
}

/// What the arena has: pages, and numbers of spans.
struct Pages {
    used: Vec<bool>,
    numbers: Vec<Number>,
}

/// The lists of all shards: fewer than there are CPUs, so that some share a home.
struct Shards {
    lists: Vec<Mutex<ClassList>>,
    /// Shards that look busy to who does not wait: bit by bit, by number.
    busy: AtomicU64,
}

const SHARDS: usize = 3;

impl Shards {
    fn new() -> Self {
        let list = |number| Mutex::new(ClassList::new(Home::of(number / CLASSES)));
        Self { lists: (0..SHARDS * CLASSES).map(list).collect(), busy: AtomicU64::new(0) }
    }

    fn list(&self, home: Home, class: Class) -> &Mutex<ClassList> {
        &self.lists[home.number() * CLASSES + class.number()]
    }
}

impl Lists for Shards {
    type Open<'l> = MutexGuard<'l, ClassList>;

    fn count(&self) -> usize {
        SHARDS
    }

    fn has_free(&self, home: Home, class: Class) -> bool {
        self.list(home, class).try_lock().is_ok_and(|list| list.has_free())
    }

    fn try_open(&self, home: Home, class: Class) -> Option<MutexGuard<'_, ClassList>> {
        let is_busy = self.busy.load(Ordering::Relaxed) >> home.number() & 1 == 1;
        (!is_busy).then(|| self.list(home, class).try_lock().ok())?
    }

    fn open(&self, home: Home, class: Class) -> MutexGuard<'_, ClassList> {
        self.list(home, class).lock().expect("no panic")
    }
}

/// A CPU: what it has at hand, and where it is at home.
struct Cpu {
    cache: Box<Cache>,
    home: Home,
}

impl Cpu {
    fn new(number: usize) -> Self {
        Self { cache: Cache::boxed(), home: Home::of(number % SHARDS) }
    }
}

/// What all CPUs share.
struct Shared {
    tables: Host,
    shards: Shards,
    pages: Mutex<Pages>,
}

impl Shared {
    fn new() -> Self {
        let last = u32::try_from(PAGES).expect("small");
        let tables = Host::new(START, PAGES, last);
        let pages = Pages { used: alloc::vec![false; PAGES], numbers: (1..=last).collect() };
        Self { tables, shards: Shards::new(), pages: Mutex::new(pages) }
    }

    fn new_span(&self, class: Class) -> Option<Number> {
        let mut pages = self.pages.lock().expect("no panic");
        let first = pages.used.windows(class.pages()).position(|run| run.iter().all(|used| !used))?;
        pages.used[first..first + class.pages()].fill(true);
        let number = pages.numbers.pop().expect("one for each page");
        let start = START + first as u64 * PAGE;
        self.tables.span(number).prepare(start, class);
        self.tables.mark_all(start, class.pages(), number);
        Some(number)
    }

    fn unmake(&self, number: Number) {
        let span = self.tables.span(number);
        assert!(span.is_empty(), "only what is empty goes back");
        let mut pages = self.pages.lock().expect("no panic");
        let first = index((span.start() - START) / PAGE);
        pages.used[first..first + span.pages()].fill(false);
        pages.numbers.push(number);
        self.tables.mark_all(span.start(), span.pages(), 0);
        span.set_state(State::Unused);
    }

    fn settle(&self, flushed: Flushed) {
        let Flushed::Empty(mut number) = flushed else { panic!("{flushed:?}") };
        while number != 0 {
            let next = self.tables.span(number).next.load(Ordering::Relaxed);
            self.unmake(number);
            number = next;
        }
    }

    fn allocate(&self, cpu: &Cpu, class: Class) -> Option<u64> {
        cpu.cache.magazine(class).take().or_else(|| self.refill(cpu, class))
    }

    fn refill(&self, Cpu { cache, home }: &Cpu, class: Class) -> Option<u64> {
        let magazine = cache.use_magazine(class);
        if magazine.refill(&self.shards, *home, &self.tables, class) == 0 {
            match self.new_span(class) {
                Some(number) => {
                    let mut list = self.shards.open_any(*home, class);
                    list.add(&self.tables, number);
                    magazine.fetch(&mut list, &self.tables, class);
                }
                None => {
                    magazine.refill_by_waiting(&self.shards, *home, &self.tables, class);
                }
            }
        }
        magazine.take()
    }

    fn free(&self, cpu: &Cpu, class: Class, block: u64) {
        if !cpu.cache.magazine(class).put(block) {
            let magazine = cpu.cache.use_magazine(class);
            self.settle(magazine.make_room(&self.shards, &self.tables, class));
            assert!(magazine.put(block), "there is room now");
        }
    }

    fn drain(&self, cpu: &Cpu) {
        for class in Class::all() {
            while let Some(flushed) = cpu.cache.magazine(class).drain(&self.shards, &self.tables, class) {
                self.settle(flushed);
            }
        }
    }

    fn drop_empty(&self) {
        for list in &self.shards.lists {
            let empty = list.lock().expect("no panic").take_empty();
            if let Some(number) = empty {
                self.unmake(number);
            }
        }
    }

    fn spans(&self) -> impl Iterator<Item = &Span> {
        self.tables.spans.iter().filter(|span| span.is(State::Blocks))
    }

    fn pages_in_use(&self) -> usize {
        self.pages.lock().expect("no panic").used.iter().filter(|used| **used).count()
    }
}

/// The heap, beside what it must amount to.
struct Model {
    shared: Shared,
    cpus: Vec<Cpu>,
    live: BTreeMap<u64, Class>,
    mallocs: Vec<u64>,
    frees: Vec<u64>,
}

/// Any layout: each power of two is as likely as another one, and so are alignments.
fn layout(one: u16, other: u16) -> Layout {
    let size = usize::from(one) >> (other % 16);
    Layout::from_size_align(size.max(1), 1 << (other / 16 % 13)).expect("a layout")
}

/// An address in the arena.
fn from(number: u16) -> u64 {
    START + u64::from(number) * (PAGES as u64 * PAGE / 65_536)
}

/// One step of a program: what, and two numbers for it.
type Step = (u8, u16, u16);

impl Model {
    fn new() -> Self {
        Self {
            shared: Shared::new(),
            cpus: (0..CPUS).map(Cpu::new).collect(),
            live: BTreeMap::new(),
            mallocs: alloc::vec![0; CLASSES],
            frees: alloc::vec![0; CLASSES],
        }
    }

    fn run(&mut self, steps: impl Iterator<Item = Step>, checks: usize) {
        for (n, (what, one, other)) in steps.enumerate() {
            let cpu = usize::from(what) % CPUS;
            match what / 4 % 32 {
                0..14 => self.allocate(cpu, one, other),
                14..16 => self.reallocate(cpu, one, other),
                16..29 => self.free(cpu, one, other),
                29 => self.free_os_memory(),
                30 => self.shared.shards.busy.store(one.into(), Ordering::Relaxed),
                _ => self.shared.drain(&self.cpus[cpu]),
            }
            if n % checks == checks - 1 {
                self.check();
            }
        }
        self.check();
        self.end();
    }

    fn allocate(&mut self, cpu: usize, one: u16, other: u16) {
        let layout = layout(one, other);
        if let Some(class) = Class::of(layout) {
            self.allocate_class(cpu, class, layout);
        }
    }

    fn allocate_class(&mut self, cpu: usize, class: Class, layout: Layout) {
        let Some(block) = self.shared.allocate(&self.cpus[cpu], class) else {
            // No memory: what this CPU has for nothing goes back, and it goes on.
            self.shared.drain(&self.cpus[cpu]);
            self.shared.drop_empty();
            return;
        };
        assert!(block.is_multiple_of(layout.align() as u64), "{block:#x} for {layout:?}");
        let end = block + class.size() as u64;
        let before = self.live.range(..end).next_back();
        let is_apart = before.is_none_or(|(start, class)| start + class.size() as u64 <= block);
        assert!(is_apart, "{block:#x} lies in {before:x?}");
        self.live.insert(block, class);
        self.mallocs[class.number()] += 1;
    }

    /// Moves a block to where one of another size has room, if it has none itself.
    fn reallocate(&mut self, cpu: usize, one: u16, other: u16) {
        let layout = layout(one, other);
        let Some((&block, &old)) = self.live.range(from(other)..).next() else { return };
        if let Some(class) = Class::of(layout).filter(|class| *class != old) {
            self.allocate_class(cpu, class, layout);
            self.give_back(cpu, block, old);
        }
    }

    fn give_back(&mut self, cpu: usize, block: u64, class: Class) {
        self.live.remove(&block);
        self.frees[class.number()] += 1;
        self.shared.free(&self.cpus[cpu], class, block);
    }

    /// All CPUs stand still, and what nobody uses goes back.
    fn free_os_memory(&self) {
        self.cpus.iter().for_each(|cpu| self.shared.drain(cpu));
        self.shared.drop_empty();
        assert!(self.shared.spans().all(|span| !span.is_empty()), "nothing is kept that is empty");
    }

    /// Gives a block back, or some in the order of their addresses.
    fn free(&mut self, cpu: usize, one: u16, other: u16) {
        let count = 1 + usize::from(other % 64) * usize::from(other >> 12 == 0);
        let blocks: Vec<(u64, Class)> =
            self.live.range(from(one)..).take(count).map(|(block, class)| (*block, *class)).collect();
        for (block, class) in blocks {
            self.give_back(cpu, block, class);
        }
    }

    /// What is handed out, and what is counted.
    fn check(&self) {
        let mut found = BTreeMap::new();
        for span in self.shared.spans() {
            let class = span.class().expect("it has blocks");
            assert_eq!(span.free() + span.out().count(), class.blocks());
            let at_hand = |block: &u64| self.cpus.iter().any(|cpu| cpu.cache.magazine(class).holds(*block));
            found.extend(span.out().filter(|block| !at_hand(block)).map(|block| (block, class)));
        }
        assert_eq!(found, self.live, "the blocks that are handed out");
        let mut sums = [(0, 0); CLASSES];
        for cpu in &self.cpus {
            cpu.cache.for_each_used(|class, magazine| {
                let (mallocs, frees) = magazine.counts();
                sums[class] = (sums[class].0 + mallocs, sums[class].1 + frees);
            });
        }
        for class in Class::all() {
            let number = class.number();
            assert_eq!(sums[number], (self.mallocs[number], self.frees[number]), "{class:?}");
        }
        let with_free = self.shared.spans().filter(|span| span.free() > 0).map(Span::start);
        assert_eq!(
            sorted(self.listed()),
            sorted(with_free),
            "the spans with free blocks are listed, each once"
        );
        let pages: usize = self.shared.spans().map(Span::pages).sum();
        assert_eq!(pages, self.shared.pages_in_use(), "pages of spans");
    }

    /// Where the spans in the lists begin.
    fn listed(&self) -> impl Iterator<Item = u64> {
        let tables = &self.shared.tables;
        self.shared.shards.lists.iter().flat_map(|list| {
            let numbers: Vec<Number> = list.lock().expect("no panic").numbers(tables).collect();
            numbers.into_iter().map(|number| tables.span(number).start())
        })
    }

    /// All of it goes back.
    fn end(&mut self) {
        for (block, class) in core::mem::take(&mut self.live) {
            self.frees[class.number()] += 1;
            self.shared.free(&self.cpus[index(block / 16) % CPUS], class, block);
        }
        self.cpus.iter().for_each(|cpu| self.shared.drain(cpu));
        self.check();
        let kept = self.shared.spans().count();
        assert!(kept <= SHARDS * CLASSES, "one empty span of a class is kept in each shard, not {kept}");
        self.shared.drop_empty();
        assert_eq!(self.shared.pages_in_use(), 0, "every page is back");
        assert_eq!(self.shared.pages.lock().expect("no panic").numbers.len(), PAGES, "every number is back");
    }
}

/// Runs the program that some bytes are, five for each step.
///
/// # Panics
/// When what comes out differs from what the map says.
pub fn run(program: &[u8]) {
    let (steps, _) = program.as_chunks();
    let step = |[what, one, more, other, last]: &[u8; 5]| {
        (*what, u16::from_le_bytes([*one, *more]), u16::from_le_bytes([*other, *last]))
    };
    Model::new().run(steps.iter().map(step), 64);
}

#[cfg(test)]
mod tests;
