//! Where a map's hashes come from.
//!
//! Whoever may choose keys, and knows the hash of each, can have them all land in one place. So each map hashes in its own
//! way, and each boot in another one: the seeds are the time stamp counter and the random numbers of a P. That is enough
//! against keys which were prepared elsewhere. It is none against an adversary who measures for long how long calls take:
//! `foldhash` is no cryptographic hash, and a counter of cycles is no secret of 64 bits.

use core::hash::{BuildHasher as _, Hash};

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use machine::clock;
use machine::percpu::Pinned;

use crate::m;

/// What all maps of this boot have in common.
static BOOT: spin::Once<SharedSeed> = spin::Once::new();

/// How a map hashes.
pub(super) struct Seed(SeedableRandomState);

impl Seed {
    /// One that nobody has foreseen.
    pub(super) fn new() -> Self {
        // Pinned, so that nobody spins for somebody who has lost his CPU.
        let pinned = Pinned::new();
        let boot = BOOT.call_once(|| SharedSeed::from_u64(clock::rdtsc().0));
        let random = u64::from(m::current(&pinned).proc().owner().random());
        Self(SeedableRandomState::with_seed(random.rotate_left(32) ^ clock::rdtsc().0, boot))
    }

    /// The hash of a key. All bits are equally good: the lowest choose a place, the highest seven tell neighbours apart.
    pub(super) fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        self.0.hash_one(key)
    }
}
