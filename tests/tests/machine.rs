//! The machine after bring-up: CPUs, address space, clock, heap.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec::Vec;

use gzero::testing::{audit, translate};
use gzero::{bring_up, heap, num_cpu, stats};
use tests::{Random, Verdict, equal};

tests::image! {
    pass: [
        every_listed_cpu_is_online,
        numbers_of_cpus_and_apics_are_unique,
        no_page_is_writable_and_executable,
        low_memory_is_not_mapped,
        every_vector_has_an_entry,
        a_pending_interrupt_ends_the_halt,
        time_does_not_run_backwards,
        the_heap_keeps_its_blocks_apart,
        the_heap_gets_back_what_it_gave,
        large_and_aligned_blocks,
        too_large_an_allocation_is_refused,
    ],
}

fn every_listed_cpu_is_online() -> Verdict {
    let facts = bring_up::get();
    let online = facts.cpus.iter().filter(|cpu| cpu.is_online()).count();
    equal("CPUs online", &online, &facts.cpus.len())?;
    equal("num_cpu", &num_cpu(), &online)?;
    equal("gomaxprocs", &stats::gomaxprocs(), &online.min(256))
}

fn numbers_of_cpus_and_apics_are_unique() -> Verdict {
    let cpus = &bring_up::get().cpus;
    for (at, cpu) in cpus.iter().enumerate() {
        equal("CPU number", &(cpu.id.0 as usize), &at)?;
        let same = cpus.iter().filter(|other| other.apic_id == cpu.apic_id).count();
        equal("CPUs with this APIC id", &same, &1)?;
    }
    Ok(())
}

fn no_page_is_writable_and_executable() -> Verdict {
    let found = audit();
    equal("writable and executable page", &found.both, &None)?;
    // The audit sees something: text is executable, data are writable.
    equal("there is text", &(found.executable > 0), &true)?;
    equal("there are data", &(found.writable > 0), &true)
}

fn low_memory_is_not_mapped() -> Verdict {
    for address in [0, 0x1000, 0x8000, 0x10_0000, 0x7fff_ffff_f000] {
        equal("mapping of a low address", &translate(address), &None)?;
    }
    let text = low_memory_is_not_mapped as *const () as u64;
    equal("this function is mapped", &translate(text).is_some(), &true)
}

fn every_vector_has_an_entry() -> Verdict {
    for vector in 32..=255 {
        equal("interrupts that came", &gzero::testing::interrupt_self(vector), &1)?;
    }
    // The last one, of the highest priority and the spurious interrupt's vector, has not stayed in service.
    equal("interrupts after all others", &gzero::testing::interrupt_self(32), &1)
}

/// With any instruction between `sti` and `hlt` the interrupt is handled first, and the CPU then sleeps for ever.
fn a_pending_interrupt_ends_the_halt() -> Verdict {
    equal("halts that ended", &gzero::testing::halt_with_interrupt_pending(1_000), &1_000)
}

fn time_does_not_run_backwards() -> Verdict {
    let mut last = gzero::testing::now();
    for _ in 0..100_000 {
        let now = gzero::testing::now();
        if now < last {
            return equal("time", &now, &last);
        }
        last = now;
    }
    Ok(())
}

/// Fills blocks of random sizes with their own number and checks all of them over and over.
fn the_heap_keeps_its_blocks_apart() -> Verdict {
    let mut random = Random::new(1);
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    for round in 0..2_000u32 {
        let size = random.index(3_000) + 1;
        let mark = round.to_le_bytes()[0];
        let block = alloc::vec![mark; size];
        if blocks.len() < 64 {
            blocks.push(block);
        } else {
            let at = random.index(64);
            let old = core::mem::replace(&mut blocks[at], block);
            let first = old[0];
            equal("whole block", &old.iter().all(|byte| *byte == first), &true)?;
        }
    }
    Ok(())
}

fn the_heap_gets_back_what_it_gave() -> Verdict {
    let before = heap::stats().live;
    let blocks: Vec<Box<[u8; 100]>> = (0..500).map(|_| Box::new([7; 100])).collect();
    equal("heap in use with blocks", &(heap::stats().live >= before + 50_000), &true)?;
    drop(blocks);
    equal("heap in use without", &heap::stats().live, &before)
}

#[repr(align(4096))]
struct Page([u8; 4096]);

#[expect(clippy::large_stack_frames, reason = "the page is built on the stack before it is boxed")]
fn large_and_aligned_blocks() -> Verdict {
    let page = Box::new(Page([1; 4096]));
    equal("address of a page modulo 4096", &(core::ptr::from_ref(&*page).addr() % 4096), &0)?;
    let large = alloc::vec![3u8; 5 << 20];
    equal("large block", &large.iter().all(|byte| *byte == 3), &true)?;
    equal("page", &page.0.iter().all(|byte| *byte == 1), &true)
}

fn too_large_an_allocation_is_refused() -> Verdict {
    let mut block: Vec<u8> = Vec::new();
    let before = stats::memory();
    equal("reserving 1 PiB", &block.try_reserve_exact(1 << 50).is_err(), &true)?;
    equal("memory after the refusal", &stats::memory(), &before)?;
    equal("reserving 1 KiB", &block.try_reserve_exact(1 << 10).is_ok(), &true)
}
