//! Segments, and the task state segment with its interrupt stacks. One set per CPU.
//!
//! Every vector has an interrupt stack (IST): an interrupt that arrived on a stack whose next page is not mapped
//! yet would be lost for good. A slot is entered from its top each time, so vectors that can nest have
//! different ones: a page fault may come inside any handler, an NMI anywhere.

use alloc::boxed::Box;

use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, FS, GS, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::registers::model_specific::GsBase;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;

use crate::vector::Vector;

/// An interrupt stack slot of the task state segment, 1 to 7 as the manuals count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Ist {
    /// Non-maskable interrupts.
    Nmi = 1,
    /// Double faults.
    DoubleFault = 2,
    /// Machine checks.
    MachineCheck = 3,
    /// Page faults.
    PageFault = 4,
    /// The other exceptions.
    Exception = 5,
    /// Everything maskable.
    Interrupt = 6,
}

impl Ist {
    /// All slots in use.
    pub const ALL: [Self; 6] =
        [Self::Nmi, Self::DoubleFault, Self::MachineCheck, Self::PageFault, Self::Exception, Self::Interrupt];

    /// The slot on which a vector's handler runs.
    pub const fn of(vector: Vector) -> Self {
        match vector {
            Vector::NMI => Self::Nmi,
            Vector::DOUBLE_FAULT => Self::DoubleFault,
            Vector::MACHINE_CHECK => Self::MachineCheck,
            Vector::PAGE_FAULT => Self::PageFault,
            other if other.is_exception() => Self::Exception,
            _ => Self::Interrupt,
        }
    }
}

/// The tops of one CPU's interrupt stacks, in the order of [`Ist::ALL`].
pub type IstTops = [u64; Ist::ALL.len()];

/// One CPU's segments and task state segment.
#[derive(Debug)]
pub struct Segments {
    table: GlobalDescriptorTable,
    code: SegmentSelector,
    data: SegmentSelector,
    task: SegmentSelector,
}

/// Builds the segments of one CPU; they live for ever.
///
/// The boot CPU does this for all: a hundred CPUs that wait for the heap's lock at once, on a host that runs two
/// of them at a time, would take seconds.
pub fn build(ist_tops: IstTops) -> &'static Segments {
    let mut tss = Box::new(TaskStateSegment::new());
    for (slot, top) in Ist::ALL.into_iter().zip(ist_tops) {
        tss.interrupt_stack_table[slot as usize - 1] = VirtAddr::new(top);
    }
    let tss: &'static TaskStateSegment = Box::leak(tss);
    let mut table = GlobalDescriptorTable::new();
    let code = table.append(Descriptor::kernel_code_segment());
    let data = table.append(Descriptor::kernel_data_segment());
    let task = table.append(Descriptor::tss_segment(tss));
    Box::leak(Box::new(Segments { table, code, data, task }))
}

/// Loads segments on the CPU that they were built for, once: a task state segment has one user.
///
/// Keeps the GS base. Takes no lock.
pub fn load(segments: &'static Segments) {
    segments.table.load();
    let block = GsBase::read();
    // SAFETY: the table was just loaded and holds a 64-bit code segment at this selector.
    unsafe { CS::set_reg(segments.code) };
    // SAFETY: a writable data segment of the loaded table; the bases of DS, ES and SS are ignored.
    unsafe { SS::set_reg(segments.data) };
    // SAFETY: as above.
    unsafe { DS::set_reg(segments.data) };
    // SAFETY: as above.
    unsafe { ES::set_reg(segments.data) };
    // SAFETY: the null selector clears the base of FS, which nobody uses.
    unsafe { FS::set_reg(SegmentSelector::NULL) };
    // SAFETY: the null selector clears the base of GS; no per-CPU access happens until it is written back.
    unsafe { GS::set_reg(SegmentSelector::NULL) };
    GsBase::write(block);
    // SAFETY: a descriptor of a task state segment that lives for ever and is not busy.
    unsafe { load_tss(segments.task) };
}
