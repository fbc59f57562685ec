//! The boot loader's memory map, read with mistrust.
//!
//! Firmware may describe one piece of memory twice: as usable in two regions, or as usable and as something else.
//! Here the something else wins, and what is usable twice counts once.

use core::ops::Range;

use bootloader_api::info::{MemoryRegion, MemoryRegionKind};

use crate::frames::FRAME_SIZE;

/// The usable memory inside `zone`: ranges of whole frames that do not overlap, in the order of the map.
pub(crate) fn usable(map: &[MemoryRegion], zone: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let usable = |region: &MemoryRegion| region.kind == MemoryRegionKind::Usable;
    map.iter().enumerate().filter(move |(_, region)| usable(region)).flat_map(move |(index, region)| Pieces {
        map,
        index,
        cursor: region.start.max(zone.start),
        end: region.end.min(zone.end),
    })
}

/// What other regions leave of one usable region.
struct Pieces<'a> {
    map: &'a [MemoryRegion],
    /// The region. Usable ones before it have been told, so they cut it too.
    index: usize,
    /// From here on nothing has been told.
    cursor: u64,
    end: u64,
}

impl Pieces<'_> {
    /// The first region at or after the cursor that cuts this one.
    fn next_cut(&self) -> Option<&MemoryRegion> {
        let cuts = |(i, r): &(usize, &MemoryRegion)| {
            (*i < self.index || r.kind != MemoryRegionKind::Usable)
                && r.start < r.end
                && r.end > self.cursor
                && r.start < self.end
        };
        self.map.iter().enumerate().filter(cuts).map(|(_, r)| r).min_by_key(|r| r.start)
    }
}

impl Iterator for Pieces<'_> {
    type Item = Range<u64>;

    fn next(&mut self) -> Option<Range<u64>> {
        while self.cursor < self.end {
            let start = self.cursor.checked_next_multiple_of(FRAME_SIZE)?;
            let (cut, after) = self.next_cut().map_or((self.end, self.end), |cut| (cut.start, cut.end));
            self.cursor = after;
            let end = cut & !(FRAME_SIZE - 1);
            if start < end {
                return Some(start..end);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;
    use core::ops::Range;

    use bootloader_api::info::{MemoryRegion, MemoryRegionKind};

    use super::usable;
    use crate::frames::FRAME_SIZE;

    const USABLE: MemoryRegionKind = MemoryRegionKind::Usable;
    const RESERVED: MemoryRegionKind = MemoryRegionKind::UnknownBios(2);
    const ALL: Range<u64> = 0..u64::MAX;

    /// Regions whose bounds are given in frames.
    fn map(regions: &[(u64, u64, MemoryRegionKind)]) -> Vec<MemoryRegion> {
        let region =
            |&(start, end, kind)| MemoryRegion { start: start * FRAME_SIZE, end: end * FRAME_SIZE, kind };
        regions.iter().map(region).collect()
    }

    fn frames(map: &[MemoryRegion], zone: Range<u64>) -> Vec<(u64, u64)> {
        usable(map, zone).map(|piece| (piece.start / FRAME_SIZE, piece.end / FRAME_SIZE)).collect()
    }

    #[test]
    fn a_tidy_map_is_told_as_it_is() {
        let map = map(&[(0, 4, USABLE), (4, 6, RESERVED), (6, 9, USABLE), (9, 12, USABLE)]);
        assert_eq!(frames(&map, ALL), [(0, 4), (6, 9), (9, 12)]);
        assert_eq!(frames(&map, 2 * FRAME_SIZE..10 * FRAME_SIZE), [(2, 4), (6, 9), (9, 10)]);
    }

    #[test]
    fn what_is_reserved_too_is_not_usable() {
        let map = map(&[(3, 4, RESERVED), (0, 10, USABLE), (8, 12, RESERVED), (3, 5, RESERVED)]);
        assert_eq!(frames(&map, ALL), [(0, 3), (5, 8)]);
    }

    #[test]
    fn what_is_usable_twice_counts_once() {
        let map = map(&[(2, 6, USABLE), (0, 10, USABLE), (3, 4, USABLE), (10, 8, RESERVED)]);
        assert_eq!(frames(&map, ALL), [(2, 6), (0, 2), (6, 10)]);
    }

    #[test]
    fn only_whole_frames_are_told() {
        let region = |start, end, kind| MemoryRegion { start, end, kind };
        let map = [region(1, 4 * FRAME_SIZE - 1, USABLE), region(FRAME_SIZE + 5, FRAME_SIZE + 6, RESERVED)];
        assert_eq!(frames(&map, ALL), [(2, 3)]);
        assert_eq!(frames(&[region(u64::MAX - 5, u64::MAX, USABLE)], ALL), []);
    }

    /// All maps of three regions in the first four frames.
    #[test]
    fn a_frame_is_told_once_if_it_is_usable_and_nothing_else() {
        let bounds = (0..5).flat_map(|start| (0..5).map(move |end| (start, end)));
        let every: Vec<_> =
            bounds.flat_map(|(start, end)| [USABLE, RESERVED].map(|kind| (start, end, kind))).collect();
        for (&a, &b, &c) in every.iter().flat_map(|a| {
            let every = &every;
            every.iter().flat_map(move |b| every.iter().map(move |c| (a, b, c)))
        }) {
            let regions = [a, b, c];
            let told = frames(&map(&regions), ALL);
            for frame in 0..4 {
                let within = |kind| regions.iter().any(|r| r.2 == kind && (r.0..r.1).contains(&frame));
                let expected = usize::from(within(USABLE) && !within(RESERVED));
                let times = told.iter().filter(|piece| (piece.0..piece.1).contains(&frame)).count();
                assert_eq!(times, expected, "frame {frame} of {regions:?}");
            }
        }
    }
}
