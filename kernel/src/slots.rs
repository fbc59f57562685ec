//! The memory of the goroutine table: pages in a region of their own, a chunk of slots behind the other.
//!
//! What goroutines have left when there were many of them is given back with their stacks, in a stopped world ([`release`]): pages of a
//! chunk all of whose slots are unused go, and one page that holds zeros and cannot be written shows in their place. So whoever looks at
//! a slot, by a stale handle or on a walk through all, sees a dead one at any time, and nothing must be known of him. Nobody writes
//! to a slot that nobody uses: `unpark` and claims look first.
//!
//! What tells lives of a slot apart must go on counting where it was: the highest generation and the highest number of a wait among
//! the chunk's slots are noted, and all slots begin there when the table grows again ([`revive`]).

use core::sync::atomic::{AtomicU64, Ordering};

use machine::address::{at, size};
use machine::frames::{self, FRAME_SIZE, Unmapped};
use machine::irq;
use machine::paging::{self, SLOTS};
use sched::GoIndex;
use sched::list::Chain;
use sched::sync::CHUNK_SLOTS;
use sched::table::{GrowError, Slot};

use crate::goroutine::{Body, SLOT, is_unused};
use crate::m::M;
use crate::runtime::Runtime;
use crate::tlb::{self, Who};

/// Bytes of a chunk's pages.
const CHUNK: u64 = (CHUNK_SLOTS as u64 * SLOT).next_multiple_of(FRAME_SIZE);

/// Slots of a chunk.
const CHUNK_LEN: usize = CHUNK_SLOTS as usize;

/// Chunks that get their memory back at a time: one flush of TLBs serves for 4,096 goroutines.
const REVIVED: usize = 16;

/// Bytes of pages that slots lie in.
static MAPPED: AtomicU64 = AtomicU64::new(0);

/// Bytes of pages that slots lie in.
pub(crate) fn bytes() -> u64 {
    MAPPED.load(Ordering::Relaxed)
}

fn start(chunk: u32) -> u64 {
    SLOTS + u64::from(chunk) * CHUNK
}

const _: () = assert!(CHUNK == CHUNK_SLOTS as u64 * SLOT, "slots of all chunks lie behind each other");

/// Writes the slots of a new chunk, all of them dead.
///
/// # Safety
/// The chunk's pages are mapped, and the table does not know of them yet.
unsafe fn write_slots(chunk: u32) -> &'static [Slot<Body>; CHUNK_LEN] {
    let first: *mut Slot<Body> = at(start(chunk));
    for (i, g) in (0..CHUNK_LEN).zip((chunk * CHUNK_SLOTS..).filter_map(GoIndex::new)) {
        let place = first.wrapping_add(i);
        // SAFETY: the caller's contract; pages begin at multiples of the slot's alignment.
        unsafe { place.write(Slot::dead(g, Body::new(g))) };
    }
    // SAFETY: written above; the memory is nobody else's, and shows slots or zeros for ever.
    unsafe { &*first.cast() }
}

/// What goes on counting in the slots of a chunk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Note {
    generation: u32,
    wait: u32,
}

impl Note {
    fn of(slots: &[Slot<Body>]) -> Self {
        let generation = slots.iter().map(|slot| slot.status().get().1).max();
        let wait = slots.iter().map(|slot| slot.body().claim.number()).max();
        Self { generation: generation.unwrap_or(0), wait: wait.unwrap_or(0) }
    }

    fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.wait)
    }

    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    const fn from_bits(bits: u64) -> Self {
        Self { generation: (bits >> 32) as u32, wait: bits as u32 }
    }
}

/// Makes dead slots: those of bare chunks, or a new chunk. The caller holds the table's lock.
///
/// # Errors
/// [`GrowError`].
pub(crate) fn grow(rt: &Runtime) -> Result<Option<Chain>, GrowError> {
    if let Some(chain) = revive(rt) {
        return Ok(Some(chain));
    }
    let range = rt.table.next_chunk()?;
    let chunk = range.start / CHUNK_SLOTS;
    map(chunk)?;
    // SAFETY: the pages are new, and the table does not know of them yet.
    let slots = unsafe { write_slots(chunk) };
    rt.table.lend(slots);
    Ok(Chain::link(&rt.table, range.filter_map(GoIndex::new)))
}

/// Maps the pages of a new chunk; those that a call without success has mapped stay for the next one.
fn map(chunk: u32) -> Result<(), GrowError> {
    if frames::is_short() {
        return Err(GrowError::NoMemory { bytes: size(CHUNK) });
    }
    for page in (start(chunk)..start(chunk + 1)).step_by(size(FRAME_SIZE)) {
        if paging::translate(page).is_none() {
            paging::map_new(page).map_err(|_| GrowError::NoMemory { bytes: size(CHUNK) })?;
            // Relaxed, as all accesses: a count.
            MAPPED.fetch_add(FRAME_SIZE, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// Gives some bare chunks their memory back. `None`: there are none, there is no memory, or CPUs cannot be told.
fn revive(rt: &Runtime) -> Option<Chain> {
    if !irq::enabled() {
        return None;
    }
    let mut revived = [(0, Note::default()); REVIVED];
    let mut count = 0;
    while let (Some(place), Some((chunk, note))) = (revived.get_mut(count), rt.table.first_bare())
        && frames::can_spare(CHUNK / FRAME_SIZE)
        && paging::end_zeros(start(chunk), CHUNK)
    {
        rt.table.clothe_first();
        MAPPED.fetch_add(CHUNK, Ordering::Relaxed);
        *place = (chunk, Note::from_bits(note));
        count += 1;
    }
    if count == 0 {
        return None;
    }
    tlb::shootdown(Who::Running);
    let slots = revived[..count].iter().flat_map(|&(chunk, note)| {
        let first = chunk * CHUNK_SLOTS;
        (first..rt.table.len().min(first + CHUNK_SLOTS)).filter_map(GoIndex::new).map(move |g| (g, note))
    });
    Chain::link(
        &rt.table,
        slots.map(|(g, note)| {
            let slot = rt.slot(g);
            slot.revive(g, note.generation);
            slot.body().revive(g, note.wait);
            g
        }),
    )
}

/// Puts spilled dead goroutines on the shared list of this CPU.
pub(crate) fn keep(rt: &Runtime, m: &M, spill: Option<Chain>) {
    if let Some(batch) = spill {
        rt.free.put(m.index, &rt.table, batch);
    }
}

/// Gives back the pages of chunks whose slots are all unused, and puts the unused slots of all others on the shared list, those in
/// front first: so goroutines lie close together again.
///
/// In a stopped world, where every unused slot is on a list: who takes one, or gives one back, is pinned.
pub(crate) fn release(rt: &Runtime, unmapped: &mut Unmapped) {
    for (chunk, slots) in rt.table.chunks().filter(|(_, slots)| slots.iter().all(is_unused)) {
        let note = Note::of(slots);
        if paging::show_zeros(start(chunk), CHUNK, unmapped) {
            rt.table.make_bare(chunk, note.to_bits());
            MAPPED.fetch_sub(CHUNK, Ordering::Relaxed);
        }
    }
    rt.all_procs().iter().for_each(|p| p.owner().forget_free());
    let unused = rt.table.chunks().flat_map(|(chunk, slots)| {
        let indices = (chunk * CHUNK_SLOTS..).filter_map(GoIndex::new);
        indices.zip(slots).filter(|(_, slot)| is_unused(slot)).map(|(g, _)| g)
    });
    rt.free.replace(&rt.table, Chain::link(&rt.table, unused));
}
