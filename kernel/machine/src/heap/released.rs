//! Runs of the arena whose pages are not mapped.
//!
//! The page map shows who lies beside whom: each page of a span in use has the span's number, pages that are free and
//! mapped have 0, and a run of this file has its number at its first and its last page. So a run that touches another
//! is joined with it, and a request that no run can serve alone is served by neighbours, with the free pages between.
//!
//! All of it happens under the arena's lock, which orders it: accesses are Relaxed, but for the stores that publish a
//! number to those who look it up without the lock.

use core::sync::atomic::Ordering;

use super::span::{List, Span, State};
use super::tables::{Number, Tables};
use crate::frames::FRAME_SIZE;

/// Lists by length: list n has the runs of 2^n to 2^(n+1) - 1 pages.
const LISTS: usize = 32;
/// Runs that are looked at for a request, in a list that has some that are too short, and for windows.
const TRIES: usize = 32;

/// The runs: each as long as it can be.
#[derive(Debug)]
pub(super) struct Released {
    lists: [List; LISTS],
    /// Bit n: list n has runs.
    some: u32,
    /// Bytes of all runs.
    pub(super) bytes: u64,
}

/// The list for runs of so many pages.
fn list_for(pages: usize) -> usize {
    (pages.max(1).ilog2() as usize).min(LISTS - 1)
}

/// Pages in a row, some of which must be mapped to serve a request.
#[derive(Debug)]
pub(super) struct Window {
    /// Where the next run is looked for.
    page: u64,
    /// Pages that must still be mapped.
    missing: usize,
}

/// The beginning of a run, which is to be mapped.
#[derive(Debug, Clone, Copy)]
pub(super) struct Front {
    pub(super) number: Number,
    pub(super) start: u64,
    pub(super) pages: usize,
}

/// The run that begins or ends with a page.
fn run_at(tables: &impl Tables, page: u64) -> Option<Number> {
    tables.number_at(page).filter(|number| tables.span(*number).is(State::Released))
}

fn bytes(pages: usize) -> u64 {
    pages as u64 * FRAME_SIZE
}

impl Window {
    /// What must be mapped next.
    pub(super) fn next(&mut self, tables: &impl Tables) -> Option<Front> {
        while self.missing > 0 && tables.entry(self.page).is_some() {
            let start = self.page;
            let Some(number) = run_at(tables, start) else {
                self.page += FRAME_SIZE;
                continue;
            };
            let pages = self.missing.min(tables.span(number).pages());
            self.missing -= pages;
            self.page += bytes(pages);
            return Some(Front { number, start, pages });
        }
        None
    }
}

impl Released {
    pub(super) const fn new() -> Self {
        Self { lists: [List::new(); LISTS], some: 0, bytes: 0 }
    }

    /// Adds a run with a number of its own. Returns the numbers of its neighbours, which it takes in.
    pub(super) fn add(
        &mut self,
        tables: &impl Tables,
        number: Number,
        mut start: u64,
        mut pages: usize,
    ) -> [Option<Number>; 2] {
        let neighbours = [run_at(tables, start - FRAME_SIZE), run_at(tables, start + bytes(pages))];
        for neighbour in neighbours.into_iter().flatten() {
            start = start.min(tables.span(neighbour).start());
            pages += tables.span(neighbour).pages();
            self.remove(tables, neighbour);
        }
        self.insert(tables, number, start, pages);
        neighbours
    }

    /// Takes pages, which are mapped now, off the beginning of a run. Returns its number if nothing is left.
    pub(super) fn take_front(
        &mut self,
        tables: &impl Tables,
        number: Number,
        pages: usize,
    ) -> Option<Number> {
        let (start, all) = (tables.span(number).start(), tables.span(number).pages());
        self.remove(tables, number);
        if pages == all {
            return Some(number);
        }
        self.insert(tables, number, start + bytes(pages), all - pages);
        None
    }

    /// Where so many pages in a row would be free after at most `limit` of them have been mapped. A run that is long enough is found by
    /// looking at few; else windows of the longest runs are tried, so that one that would do may be missed when there are many.
    pub(super) fn find(&self, tables: &impl Tables, pages: usize, limit: usize) -> Option<Window> {
        if let Some(number) = self.long_enough(tables, pages).filter(|_| pages <= limit) {
            return Some(Window { page: tables.span(number).start(), missing: pages });
        }
        let longest_first = self.lists.iter().rev().flat_map(|list| list.numbers(tables));
        longest_first
            .take(TRIES)
            .filter_map(|number| window(tables, number, pages))
            .find(|window| window.missing <= limit)
    }

    /// A run of at least so many pages.
    fn long_enough(&self, tables: &impl Tables, pages: usize) -> Option<Number> {
        let list = list_for(pages);
        let mut same = self.lists[list].numbers(tables).take(TRIES);
        same.find(|number| tables.span(*number).pages() >= pages).or_else(|| {
            // Any of the lists above will do; the shortest leaves the others whole.
            let above = self.some.checked_shr(u32::try_from(list).ok()? + 1).filter(|lists| *lists != 0)?;
            Some(self.lists[list + 1 + above.trailing_zeros() as usize].first)
        })
    }

    fn insert(&mut self, tables: &impl Tables, number: Number, start: u64, pages: usize) {
        let span = tables.span(number);
        span.prepare_whole(start, pages, State::Released);
        let list = list_for(pages);
        self.lists[list].push(tables, number);
        self.some |= 1 << list;
        self.bytes += bytes(pages);
        mark(tables, span, number);
    }

    fn remove(&mut self, tables: &impl Tables, number: Number) {
        let span = tables.span(number);
        mark(tables, span, 0);
        self.bytes -= span.size();
        let list = list_for(span.pages());
        self.lists[list].remove(tables, number);
        if self.lists[list].first == 0 {
            self.some &= !(1 << list);
        }
    }
}

/// Writes to the page map at both ends of a run.
fn mark(tables: &impl Tables, span: &Span, number: Number) {
    tables.mark(span.start(), number);
    tables.mark(span.start() + span.size() - FRAME_SIZE, number);
}

/// The window that begins with the free pages before a run. `None` if it is too short, or if another run precedes those
/// pages: that one's window has this run in it.
fn window(tables: &impl Tables, number: Number, pages: usize) -> Option<Window> {
    let start = tables.span(number).start();
    let is_free = |page: u64| tables.entry(page).is_some_and(|entry| entry.load(Ordering::Relaxed) == 0);
    let mut have = 0;
    while have < pages && is_free(start - bytes(have + 1)) {
        have += 1;
    }
    if run_at(tables, start - bytes(have + 1)).is_some() {
        return None;
    }
    let (mut page, mut missing) = (start, 0);
    while have < pages {
        let (step, unmapped) = match run_at(tables, page) {
            Some(run) => (tables.span(run).pages(), tables.span(run).pages()),
            None if is_free(page) => (1, 0),
            None => return None,
        };
        (have, missing) = (have + step, missing + unmapped);
        page += bytes(step);
    }
    // Of the last run only the beginning is needed.
    Some(Window { page: start, missing: missing - (have - pages) })
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::super::tables::host::Host;
    use super::{FRAME_SIZE, Number, Ordering, Released, State, Tables, bytes};

    const PAGES: usize = 64;
    const START: u64 = 0x10_0000;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Page {
        Used,
        Free,
        Unmapped,
    }

    /// The runs, beside what they must amount to.
    struct Model {
        tables: Host,
        released: Released,
        pages: [Page; PAGES],
        numbers: Vec<Number>,
    }

    fn address(page: usize) -> u64 {
        START + bytes(page)
    }

    impl Model {
        fn new() -> Self {
            let count = u32::try_from(PAGES).expect("small") + 1;
            let tables = Host::new(START, PAGES, count);
            // The last number is that of all spans in use.
            tables.span(count).prepare_whole(0, 1, State::Large);
            Self {
                tables,
                released: Released::new(),
                pages: [Page::Free; PAGES],
                numbers: (1..count).collect(),
            }
        }

        fn set(&mut self, page: usize, to: Page) {
            let number = if to == Page::Used { self.tables.spans.len() - 1 } else { 0 };
            self.tables.map[page].store(u32::try_from(number).expect("small"), Ordering::Relaxed);
            self.pages[page] = to;
        }

        /// Releases a run of free pages that begins here.
        fn release(&mut self, start: usize, length: usize) {
            let is_free = |page: &usize| self.pages.get(*page) == Some(&Page::Free);
            let length = (start..start + length).take_while(is_free).count();
            if length == 0 {
                return;
            }
            let number = self.numbers.pop().expect("one for each page");
            let joined = self.released.add(&self.tables, number, address(start), length);
            self.numbers.extend(joined.into_iter().flatten());
            self.pages[start..start + length].fill(Page::Unmapped);
        }

        /// The longest row of pages of a kind.
        fn longest(&self, of: impl Fn(Page) -> bool) -> usize {
            self.pages.split(|page| !of(*page)).map(<[Page]>::len).max().unwrap_or(0)
        }

        /// Asks for a row of pages, with so many frames. Of each run only this share can be mapped.
        fn bring_back(&mut self, pages: usize, limit: usize, share: usize) {
            let found = self.released.find(&self.tables, pages, limit);
            let possible = self.longest(|page| page != Page::Used) >= pages;
            assert!(found.is_none() || possible, "{pages} pages in {:?}", self.pages);
            assert!(found.is_some() || !possible || limit < pages, "{pages} pages in {:?}", self.pages);
            let (Some(mut window), mut mapped) = (found, 0) else { return };
            while let Some(front) = window.next(&self.tables) {
                let count = front.pages / share;
                if count > 0 {
                    self.numbers.extend(self.released.take_front(&self.tables, front.number, count));
                    let first = usize::try_from((front.start - START) / FRAME_SIZE).expect("small");
                    self.pages[first..first + count].fill(Page::Free);
                }
                mapped += count;
                if count < front.pages {
                    return;
                }
            }
            assert!(mapped <= limit.min(pages), "{mapped} were mapped for {pages}");
            assert!(self.longest(|page| page == Page::Free) >= pages, "{pages} pages in {:?}", self.pages);
        }

        /// Runs are as long as they can be, and each has its number at both ends.
        fn check(&self) {
            let mut listed = [false; PAGES];
            let mut count = 0;
            for number in self.released.lists.iter().flat_map(|list| list.numbers(&self.tables)) {
                let span = self.tables.span(number);
                let first = usize::try_from((span.start() - START) / FRAME_SIZE).expect("small");
                let run = first..first + span.pages();
                assert!(run.clone().all(|page| !core::mem::replace(&mut listed[page], true)), "twice");
                let outside = |page: Option<usize>| page.and_then(|page| self.pages.get(page));
                assert_ne!(outside(first.checked_sub(1)), Some(&Page::Unmapped), "a run that touches it");
                assert_ne!(outside(Some(run.end)), Some(&Page::Unmapped), "a run that touches it");
                let entry = |page: usize| self.tables.map[page].load(Ordering::Relaxed);
                assert_eq!((entry(run.start), entry(run.end - 1)), (number, number), "both ends of {run:?}");
                let mut inside = run.start + 1..run.end - 1;
                assert!(inside.all(|page| entry(page) == 0), "between the ends of {run:?}");
                count += 1;
            }
            for (n, list) in self.released.lists.iter().enumerate() {
                assert_eq!(self.released.some >> n & 1 == 1, list.first != 0, "list {n}");
                let length = |number| self.tables.span(number).pages();
                assert!(list.numbers(&self.tables).all(|number| length(number).ilog2() as usize == n));
            }
            let unmapped = self.pages.map(|page| page == Page::Unmapped);
            assert_eq!(listed, unmapped, "what is in the list is what is not mapped");
            assert_eq!(self.released.bytes, bytes(unmapped.into_iter().filter(|unmapped| *unmapped).count()));
            assert_eq!(self.numbers.len() + count, PAGES, "no number is lost");
        }
    }

    #[test]
    fn runs_join_and_serve_whatever_fits_them_together() {
        for seed in 1..=if cfg!(miri) { 1 } else { 200_u64 } {
            // Printed only if the test fails.
            std::println!("seed {seed}");
            let mut model = Model::new();
            let mut state = seed;
            let mut below = |end: usize| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                usize::try_from(state >> 33).expect("31 bits") % end
            };
            for _ in 0..500 {
                let (page, length) = (below(PAGES), 1 + below(16));
                match (below(8), model.pages[page]) {
                    (0..3, _) => model.release(page, length),
                    (3, Page::Free) => model.set(page, Page::Used),
                    (4..6, Page::Used) => model.set(page, Page::Free),
                    _ => {
                        let pages = model.longest(|page| page == Page::Free) + 1 + below(4);
                        model.bring_back(pages, below(3 * pages), [1, 1, 1, 2][below(4)]);
                    }
                }
                model.check();
            }
        }
    }
}
