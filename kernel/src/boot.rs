//! From the boot loader's jump to the first goroutine, one step a line.

use alloc::vec::Vec;
use core::fmt;

use bootloader_api::BootInfo;
use bootloader_api::info::{MemoryRegion, MemoryRegionKind};
use machine::acpi::Tables;
use machine::address::{at, size};
use machine::apic::timer::{self, TimerKind};
use machine::clock::Nanos;
use machine::cpu::{Cpu, Features};
use machine::madt::ApicId;
use machine::percpu::{CpuId, PerCpu};
use machine::vector::Vector;
use machine::window::PhysWindow;
use machine::{
    apic, audit, clock, console, control, frames, gdt, idt, ioapic, irq, paging, pic, smp, stack, symbol,
};
use sched::MAX_PROCS;

use crate::args::Args;
use crate::bring_up::{self, BringUp, CpuLine, Firmware};
use crate::builder::Builder;
use crate::m::{M, Preemption};
use crate::program::Program;
use crate::runtime::{self, Limits};
use crate::waits::{self, OnDeadlock};
use crate::{
    console as log_console, hold, idle, join, mem_stats, panic, preempt, schedtrace, stacks, sysmon, tick,
    tlb, world,
};

/// The boot CPU's block. Those of the others are made when they are started.
static BOOT_CPU: PerCpu = PerCpu::new(CpuId(0));

/// A window that is not larger than this can hold every device the kernel uses.
const LOWEST_WINDOW: u64 = 4 << 30;

/// A goroutine takes at least one frame of memory, for its stack.
const FRAMES_PER_GOROUTINE: u64 = 1;

/// Brings the machine up and runs the program.
pub(crate) fn boot(info: &'static mut BootInfo, program: Program) -> ! {
    // Per-CPU data come first: every lock counts in them.
    BOOT_CPU.install();
    BOOT_CPU.set_kernel_stack(info.kernel_stack_bottom, info.kernel_stack_bottom + info.kernel_stack_len);
    console::init_serial();
    log_console::init();
    if let Some(screen) = info.framebuffer.take()
        && let Err(error) = console::attach_screen(screen)
    {
        log::warn!("no text on the screen: {error}");
    }
    let args = boot_arguments(info);
    let level = args.choice("log", log::LevelFilter::Warn, &bring_up::LEVELS);
    log::set_max_level(level);
    args.warn_unknown(program.parameters);

    let window = memory(info);
    symbols(info, window);
    descriptor_tables();
    let tables = Tables::read(info.rsdp_addr.into_option(), window);
    for problem in &tables.problems {
        log::error!("{problem}");
    }
    if let Some(madt) = &tables.madt {
        ioapic::init(madt);
    }
    let boot_cpu = Cpu::identify();
    let clock = clock::init(&tables, window, boot_cpu.features);
    let mode = interrupts(&tables);
    let timer = local_timer(boot_cpu.features);
    let reports = start_cpus(&tables, &info.memory_regions, &args);

    let cpus: Vec<CpuLine> = core::iter::once(CpuLine::boot(&BOOT_CPU)).chain(reports).collect();
    let online: Vec<&'static PerCpu> = cpus.iter().filter_map(CpuLine::block).collect();
    let gomaxprocs = gomaxprocs(&args, &online);
    bring_up::publish(BringUp {
        firmware: firmware(&info.memory_regions),
        memory: usable(&info.memory_regions),
        cpu: boot_cpu,
        apic: mode,
        clock: *clock,
        timer,
        acpi_oem: tables.oem,
        cpus,
        gomaxprocs,
        ready_at: clock::now(),
        args,
    });
    start_scheduler(&online, gomaxprocs, program)
}

/// The text that the image carries, or nothing.
fn boot_arguments(info: &BootInfo) -> Args {
    let address = info.ramdisk_addr.into_option();
    let bytes = address.map_or(&[][..], |address| {
        let start: *const u8 = at(address);
        // SAFETY: the boot loader has mapped the file there, and its frames are never handed out.
        unsafe { core::slice::from_raw_parts(start, size(info.ramdisk_len)) }
    });
    Args::from_bytes(bytes, |warning| log::warn!("{warning}"))
}

/// Frames, page tables, and by the first allocation the heap.
fn memory(info: &BootInfo) -> PhysWindow {
    let Some(base) = info.physical_memory_offset.into_option() else {
        panic::throw(format_args!("the boot loader has not mapped physical memory"));
    };
    let end = info.memory_regions.iter().map(|region| region.end).max().unwrap_or(0);
    let window = PhysWindow { base, size: end.max(LOWEST_WINDOW) };
    let lost = frames::init(window, &info.memory_regions);
    if lost > 0 {
        log::warn!("memory map: too many holes, {} KiB stay unused", lost / 1024);
    }
    paging::init(window);
    window
}

/// The names of functions, from the program's file, which the boot loader leaves where it has loaded it.
fn symbols(info: &BootInfo, window: PhysWindow) {
    let file = info.kernel_addr..info.kernel_addr.saturating_add(info.kernel_len);
    if let Err(reason) = symbol::init(window, file, info.kernel_image_offset) {
        log::warn!("traces have no names: {reason}");
    }
}

/// Segments, interrupt stacks, interrupt table; after that the boot loader's part of the address space goes.
fn descriptor_tables() {
    match stack::allocate_ists() {
        Ok(stacks) => {
            BOOT_CPU.set_interrupt_stacks(stacks.range.bottom, stacks.range.top);
            gdt::load(gdt::build(stacks.tops));
        }
        Err(error) => panic::throw(format_args!("no memory for the boot CPU's interrupt stacks: {error:?}")),
    }
    idt::load();
    panic::init();
    control::install();
    paging::drop_lower_half();
    let audit = audit::audit();
    if let Some(page) = audit.both {
        panic::throw(format_args!("the page at {page:#x} is writable and executable"));
    }
}

/// The local APIC of the boot CPU; from here on interrupts are on.
fn interrupts(tables: &Tables) -> apic::Mode {
    pic::disable();
    let mode = apic::choose()
        .unwrap_or_else(|error| panic::throw(format_args!("cannot map the local APIC: {error:?}")));
    if let Some(madt) = tables.madt.as_ref().filter(|_| mode == apic::Mode::Xapic) {
        let (said, is) = (madt.local_apic_address, apic::physical_base());
        if said != is {
            log::warn!(
                "ACPI: MADT has the local APIC at {said:#x}, but the CPU has it at {is:#x}, which is used"
            );
        }
    }
    BOOT_CPU.set_apic_id(apic::enter_mode());
    apic::enable();
    idt::register(Vector::WAKE, |_| {});
    idt::register(Vector::SPURIOUS, |_| {});
    tlb::init();
    hold::init();
    sysmon::init();
    preempt::init();
    stacks::init();
    idt::register(Vector::APIC_ERROR, |_| log::warn!("local APIC error, status {:#x}", apic::take_errors()));
    irq::enable();
    mode
}

/// The timer of the local APIC, on this CPU; the others enable theirs when they come.
fn local_timer(features: Features) -> TimerKind {
    let kind = timer::init(features);
    if kind == TimerKind::Dead {
        log::error!(
            "the local APIC's timer does not count: no time slice ends, and sleeps end late or never"
        );
    }
    timer::enable();
    kind
}

/// Starts all CPUs that the firmware lists, and waits until they are online or given up.
fn start_cpus(tables: &Tables, map: &[MemoryRegion], args: &Args) -> Vec<CpuLine> {
    if let Some(madt) = &tables.madt {
        for id in &madt.repeated {
            log::warn!("ACPI: MADT lists the CPU with APIC id {id} more than once: it is started once");
        }
        if madt.counts.surplus > 0 {
            log::warn!(
                "ACPI: MADT lists {} CPUs more than the {MAX_CPUS} that are used",
                madt.counts.surplus
            );
        }
    }
    let listed = tables.madt.as_ref().map_or(&[][..], |madt| &madt.cpus);
    let mut ids: Vec<u32> =
        listed.iter().map(|ApicId(id)| *id).filter(|id| *id != BOOT_CPU.apic_id()).collect();
    // A CPU that does not exist, to see what the start does with one that does not come.
    match args.number("ghost", NO_GHOST, 0..=NO_GHOST - 1) {
        NO_GHOST => {}
        // Starting it a second time would reset it.
        ghost if ghost == BOOT_CPU.apic_id() || ids.contains(&ghost) => {
            log::warn!("ghost={ghost}: the machine has a CPU with this APIC id, so nothing is added");
        }
        ghost => ids.push(ghost),
    }
    for id in ids.drain(ids.len().min(MAX_CPUS - 1)..) {
        log::warn!("the CPU with APIC id {id} is left out: {MAX_CPUS} CPUs are used at most");
    }
    match smp::start(&ids, map, application_processor) {
        Ok(reports) => {
            smp::allow_broadcast(tables.madt.as_ref().map_or(0, |madt| madt.counts.distinct()));
            let lines: Vec<CpuLine> = reports.into_iter().map(CpuLine::from).collect();
            let mut missing = lines.iter().filter(|line| !line.is_online());
            if let Some(first) = missing.next() {
                log::warn!("{first}{}", AndMore(missing.count()));
            }
            lines
        }
        Err(error) => {
            log::error!("only the boot CPU runs: {error:?}");
            Vec::new()
        }
    }
}

/// What ends a line about one CPU that stands for some more.
struct AndMore(usize);

impl fmt::Display for AndMore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            n => write!(f, "; and so are {n} more"),
        }
    }
}

/// The APIC id that addresses all CPUs, and so none.
const NO_GHOST: u32 = u32::MAX;

/// CPUs that are started at most.
const MAX_CPUS: usize = machine::madt::MAX_CPUS;

/// What an application processor does once it is online: waits for the runtime, then schedules.
fn application_processor(block: &'static PerCpu) -> ! {
    loop {
        irq::disable();
        // The M is installed by the boot CPU, which then sends an interrupt: no halt misses it.
        if let Some(m) = runtime::try_get().and_then(|rt| rt.ms.iter().find(|m| m.block.id() == block.id())) {
            irq::enable();
            m.install();
            idle::scheduler(m)
        }
        irq::enable_and_halt();
    }
}

/// GOMAXPROCS: what the boot arguments ask for, at most one P for each CPU.
fn gomaxprocs(args: &Args, online: &[&'static PerCpu]) -> u32 {
    let cpus = u32::try_from(online.len()).unwrap_or(MAX_PROCS).min(MAX_PROCS);
    let wanted = args.number("gomaxprocs", cpus, 1..=MAX_PROCS);
    if wanted > cpus {
        log::warn!("gomaxprocs={wanted}: only {cpus} CPUs can run goroutines, so {cpus} is used");
    }
    wanted.min(cpus)
}

/// Makes the runtime, starts the main goroutine, and lets all CPUs run.
fn start_scheduler(online: &[&'static PerCpu], gomaxprocs: u32, program: Program) -> ! {
    let args = &bring_up::get().args;
    let preemption =
        args.choice("preempt", Preemption::On, &[("on", Preemption::On), ("off", Preemption::Off)]);
    stop_limits(args);
    waits::set_on_deadlock(args.choice("deadlock", OnDeadlock::Report, &waits::CHOICES));
    schedtrace::set(args.number("schedtrace", 0, 0..=MAX_MILLIS));
    let most =
        (frames::stats().total / FRAMES_PER_GOROUTINE).min(stack::MAX_STACKS).min(u64::from(u32::MAX / 2));
    let max_goroutines = u32::try_from(most).unwrap_or(u32::MAX / 2);
    let rt = runtime::init(
        online,
        &Limits { gomaxprocs, max_goroutines, preemption, reclaim: mem_stats::free_os_memory },
    )
    .unwrap_or_else(|error| panic::throw(format_args!("no memory for the goroutine table: {error}")));
    let m: &'static M = &rt.ms[0];
    m.install();
    tick::rearm(m);
    let main = Builder::new().name("main").stack_size(Builder::MAX_STACK_SIZE);
    join::go_with(main, move || panic::exit((program.main)()))
        .unwrap_or_else(|error| panic::throw(format_args!("main: {error}")));
    smp::send_to_others(apic::icr::Ipi::Fixed(Vector::WAKE));
    idle::scheduler(m)
}

/// After which times a stop of the world complains and gives up.
fn stop_limits(args: &Args) {
    let emulated = bring_up::get().cpu.features.contains(Features::HYPERVISOR);
    let (report, give_up) = if emulated { (1_000, 60_000) } else { (10, 10_000) };
    let report = args.number("stopreport", report, 1..=MAX_MILLIS);
    let give_up = args.number("stopthrow", give_up, 1..=MAX_MILLIS);
    world::set_limits(Nanos::from_millis(report.into()), Nanos::from_millis(give_up.into()));
}

/// The longest time that a boot argument gives: a day, in milliseconds.
const MAX_MILLIS: u32 = 24 * 3_600 * 1_000;

/// Which firmware started the machine: the boot loader keeps its kinds of memory apart.
fn firmware(map: &[MemoryRegion]) -> Firmware {
    if map.iter().any(|region| matches!(region.kind, MemoryRegionKind::UnknownUefi(_))) {
        Firmware::Uefi
    } else {
        Firmware::Bios
    }
}

/// Bytes of memory that the firmware gives to the system.
fn usable(map: &[MemoryRegion]) -> u64 {
    let ours = |kind| matches!(kind, MemoryRegionKind::Usable | MemoryRegionKind::Bootloader);
    map.iter().filter(|region| ours(region.kind)).map(|region| region.end - region.start).sum()
}
