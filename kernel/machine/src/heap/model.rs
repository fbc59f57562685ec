//! Magazines, lists and spans together, against a plain map of what is handed out; CPUs are caches, or threads.
//!
//! Programs are rows of numbers: proptest makes short ones, and shrinks those that fail; a seeded soak runs long ones. Under
//! Miri both are cut short.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::alloc::Layout;
use core::iter;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Mutex, MutexGuard};

use proptest::prelude::{ProptestConfig, any, proptest};

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
        let magazine = cache.magazine(class);
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
        let magazine = cpu.cache.magazine(class);
        if !magazine.put(block) {
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
                0..16 => self.allocate(cpu, one, other),
                16..30 => self.free(cpu, one, other),
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
        // Each power of two is as likely as any, and so are alignments.
        let size = usize::from(one) >> (other % 16);
        let align = 1 << (other / 16 % 13);
        let layout = Layout::from_size_align(size.max(1), align).expect("a layout");
        let Some(class) = Class::of(layout) else { return };
        let Some(block) = self.shared.allocate(&self.cpus[cpu], class) else {
            // No memory: what this CPU has for nothing goes back, and it goes on.
            self.shared.drain(&self.cpus[cpu]);
            self.shared.drop_empty();
            return;
        };
        assert!(block.is_multiple_of(align as u64), "{block:#x} for {layout:?}");
        let end = block + class.size() as u64;
        let before = self.live.range(..end).next_back();
        let is_apart = before.is_none_or(|(start, class)| start + class.size() as u64 <= block);
        assert!(is_apart, "{block:#x} lies in {before:x?}");
        self.live.insert(block, class);
        self.mallocs[class.number()] += 1;
    }

    /// Gives a block back, or some in the order of their addresses.
    fn free(&mut self, cpu: usize, one: u16, other: u16) {
        let from = START + u64::from(one) * (PAGES as u64 * PAGE / 65_536);
        let count = 1 + usize::from(other % 64) * usize::from(other >> 12 == 0);
        let blocks: Vec<(u64, Class)> =
            self.live.range(from..).take(count).map(|(block, class)| (*block, *class)).collect();
        for (block, class) in blocks {
            self.live.remove(&block);
            self.frees[class.number()] += 1;
            self.shared.free(&self.cpus[cpu], class, block);
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
        for class in Class::all() {
            let counts = self.cpus.iter().map(|cpu| cpu.cache.magazine(class).counts());
            let sums = counts.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
            assert_eq!(sums, (self.mallocs[class.number()], self.frees[class.number()]), "{class:?}");
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

/// Numbers that a seed makes.
fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state ^ state >> 29
    }
}

const fn unless_miri(usual: u32, miri: u32) -> u32 {
    if cfg!(miri) { miri } else { usual }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: unless_miri(128, 1), failure_persistence: None, ..ProptestConfig::default()
    })]
    #[test]
    fn any_program_gets_what_the_map_says(
        steps in proptest::collection::vec(any::<Step>(), 0..unless_miri(2_000, 40) as usize)
    ) {
        Model::new().run(steps.into_iter(), 100);
    }
}

#[test]
fn long_programs_get_what_the_map_says() {
    for seed in 1..=unless_miri(8, 1).into() {
        // Printed only if the test fails.
        std::println!("seed {seed}");
        let mut random = random(seed);
        let [what, _, one, _, other, ..] = [0, 1, 2, 3, 4, 5];
        let step = move |_| {
            let bytes = random().to_le_bytes();
            let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
            (bytes[what], word(one), word(other))
        };
        let steps = unless_miri(100_000, 60);
        Model::new().run((0..steps).map(step), 1_000);
    }
}

/// Each thread is a CPU, which keeps some blocks, gives half of the others to the next to give back, and never has one that
/// somebody else has.
#[test]
fn threads_have_blocks_of_their_own() {
    let shared = Shared::new();
    let taken: Vec<AtomicBool> = (0..PAGES * 256).map(|_| AtomicBool::new(false)).collect();
    let flag = |block: u64| &taken[index((block - START) / 16)];
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..CPUS).map(|_| mpsc::channel::<(u64, Class)>()).unzip();
    let work = |seed: u64, to: mpsc::Sender<(u64, Class)>, from: mpsc::Receiver<(u64, Class)>| {
        let (mut random, cpu) = (random(seed), Cpu::new(index(seed)));
        let free = |(block, class)| {
            assert!(flag(block).swap(false, Ordering::Relaxed), "{block:#x} was taken");
            shared.free(&cpu, class, block);
        };
        for _ in 0..unless_miri(20_000, 40) {
            let class = Class::new(index(random() >> 40) % 24).expect("there are more");
            if let Some(block) = shared.allocate(&cpu, class) {
                assert!(!flag(block).swap(true, Ordering::Relaxed), "{block:#x} is somebody else's");
                if random() >> 63 == 0 || to.send((block, class)).is_err() {
                    free((block, class));
                }
            }
            from.try_iter().for_each(free);
        }
        drop(to);
        from.iter().for_each(free);
        shared.drain(&cpu);
    };
    std::thread::scope(|scope| {
        let to = senders.into_iter().cycle().skip(1);
        for ((seed, from), to) in iter::zip(1.., receivers).zip(to.take(CPUS).collect::<Vec<_>>()) {
            scope.spawn(move || work(seed, to, from));
        }
    });
    shared.drop_empty();
    assert_eq!(shared.pages_in_use(), 0, "every page is back");
}

#[test]
fn a_block_that_goes_back_twice_is_found_when_its_batch_does() {
    let (shared, cpu) = (Shared::new(), Cpu::new(1));
    let class = Class::new(3).expect("a class");
    let block = shared.allocate(&cpu, class).expect("there is memory");
    shared.free(&cpu, class, block);
    shared.free(&cpu, class, block);
    let flushed = cpu.cache.magazine(class).drain(&shared.shards, &shared.tables, class);
    assert_eq!(flushed, Some(Flushed::NotAllocated(block)));
}
