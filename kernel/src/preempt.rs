//! What is asked of a CPU by its interrupt handlers, and where it is answered.
//!
//! Handlers leave requests ([`ask`]). A request is answered at the first of these points:
//!
//! 1. The handler returns to a goroutine that stands on its own stack and holds nothing ([`on_return`]). A stop of the
//!    world is obeyed in the handler; for everything else the goroutine is made to call [`landing`] before it goes on
//!    ([`machine::intrude`]), with all registers saved on its own stack, at whatever instruction it was: this is what makes
//!    `loop {}` give way.
//! 2. The last guard of a goroutine goes ([`on_asked`]): it was pinned or held a lock when the handler came. A stop of the world it
//!    follows there and then, and so does [`landing`]: the CPU counts as stopped while it still is on the goroutine's stack.
//! 3. The scheduler loop makes its next step ([`in_loop`]).
//!
//! A goroutine that is low on stack is not made to answer at points 1 and 2: the call could run into its guard page. It
//! keeps its CPU until it has returned from something or blocks; the timer goes on looking. A stop of the world it obeys
//! in the handler, or at point 2 if the rest of its page suffices for that.
//!
//! With interrupts off in a goroutine (2) nothing may be switched; then the CPU sends itself an interrupt, which arrives
//! when they are on again.

use machine::apic;
use machine::apic::icr::{Ipi, Target};
use machine::backtrace::Start;
use machine::entry::Frame;
use machine::frames::FRAME_SIZE;
use machine::idt::{self, Return};
use machine::intrude;
use machine::irq::{self, IrqGuard};
use machine::percpu::{self, Pinned};
use machine::stack;
use machine::vector::Vector;
use sched::world::MustStop;

use crate::hold;
use crate::input;
use crate::m::{self, M, ask};
use crate::mark::{Doing, Mark};
use crate::perform;
use crate::runtime::Runtime;
use crate::schedtrace;
use crate::stacks::{
    self, HasRoom, StackKind, from_goroutine, interrupted_goroutine, interrupted_stack, on_m,
};
use crate::sysmon;
use crate::tick;
use crate::timers;

/// Bytes of stack that an intrusion needs: its own, and those of a reschedule or of readying sleepers.
const ROOM: u64 = intrude::STACK_USED + 4096;

pub(crate) fn init() {
    intrude::on_landing(landing);
    idt::on_return(on_return);
    percpu::on_asked(on_asked);
}

/// Point 1, on the interrupt stack with interrupts off.
fn on_return(frame: &mut Frame) -> Return {
    // Guards come and go below, and none of them is the interrupted code's last.
    let pinned = Pinned::new();
    let how = m::of_this_cpu().map_or(Return::Resume, |m| answer_in_handler(m, frame));
    pinned.release();
    how
}

fn answer_in_handler(m: &'static M, frame: &mut Frame) -> Return {
    let rt = m::runtime_of(m);
    if interrupted_stack(m, frame.rsp).is_none() {
        return Return::Resume;
    }
    if m.block.requests() & ask::STOP != 0
        && let Some(must) = rt.world.must_stop(m.index)
    {
        m.stand(Start::interrupted(frame));
        // Here, before the move to the other stack: the stopper waits for it.
        hold::stop_in_handler(must, frame.vector);
        forget_stop();
        m.block.begin_loan();
        return Return::OnKernelStack(m.kernel_stack_top(), held);
    }
    if let Some(room) = interrupted_goroutine(m, frame.rsp, ROOM) {
        intrude(m, frame, room);
    }
    Return::Resume
}

/// Waits for the end of the stop, on the kernel stack, with interrupts off at both ends.
extern "C" fn held(frame: &mut Frame) {
    let m = m::of_this_cpu().expect("a held CPU has its M");
    let rt = m::runtime();
    irq::enable();
    hold::wait(rt, m);
    loop {
        hold::hold(rt, m);
        irq::disable();
        // The next stop may have begun meanwhile, and its interrupt have come.
        if rt.world.must_stop(m.index).is_none() {
            break;
        }
        irq::enable();
    }
    m.go_on();
    forget_stop();
    let pinned = Pinned::new();
    ask_to_vacate(m);
    m.block.end_loan();
    if m.block.is_asked()
        && let Some(room) = interrupted_goroutine(m, frame.rsp, ROOM)
    {
        intrude(m, frame, room);
    }
    pinned.release();
}

/// Has the goroutine here given away if a stop has taken the P.
fn ask_to_vacate(m: &M) {
    if !m.is_active() {
        percpu::request(ask::VACATE);
    }
}

/// Takes back a request to stop that was followed without it. Interrupts are off.
fn forget_stop() {
    let pinned = Pinned::new();
    let others = percpu::take_requests(&pinned) & !ask::STOP;
    if others != 0 {
        percpu::request(others);
    }
    pinned.release();
}

/// Makes the interrupted goroutine answer what is asked of it, if it has the stack for it.
fn intrude(m: &M, frame: &mut Frame, room: HasRoom) {
    let intruded = match room {
        // SAFETY: the handler runs on another stack; interrupts were on, or it would not have come; the goroutine holds
        // no lock, or this would not be asked of it now; there is room.
        HasRoom::Yes => unsafe { intrude::intrude(frame, ROOM) },
        HasRoom::No => false,
    };
    if !intruded {
        tick::rearm(m);
    }
}

/// Where an intruded goroutine answers: on its own stack, with interrupts off at first.
extern "C" fn landing() {
    let pinned = Pinned::new();
    let m = m::current(&pinned);
    // A stop may have begun since the handler looked: its interrupt would come first, and take its time. There is room, and it is
    // mapped.
    match m::runtime_of(m).world.must_stop(m.index) {
        Some(must) => stop_here(&pinned, m, must),
        None => irq::enable(),
    }
    answer(&pinned);
}

/// Point 2: called when the last guard goes, wherever that is.
fn on_asked() {
    let pinned = Pinned::new();
    let Some(m) = m::of_this_cpu() else { return pinned.release() };
    if m.block.locks() > 1 || stacks::kind_by_data(m) != StackKind::Goroutine {
        // A handler, the scheduler loop, or a call on the kernel stack: point 1 or 3 comes, or the guard of that call goes.
        return pinned.release();
    }
    if !irq::enabled() {
        apic::send(Ipi::Fixed(Vector::RESCHEDULE), Target::Myself);
        return pinned.release();
    }
    if stop_in_place(&pinned, m) && !m.block.is_asked() {
        return;
    }
    if interrupted_goroutine(m, stack::pointer(), ROOM) != Some(HasRoom::Yes) {
        // As at point 1: it keeps its CPU until it has returned from something, and the timer looks after that.
        tick::rearm(m);
        return pinned.release();
    }
    answer(&pinned);
}

/// Follows a stop of the world if that is asked of a goroutine that has the rest of a page of its stack for it, and comes back
/// at its end. Whether there was one.
///
/// That page is mapped once it is touched: nothing faults on the way.
#[inline]
fn stop_in_place(pinned: &Pinned, m: &'static M) -> bool {
    /// More than the way to the kernel stack takes.
    const WAY: u64 = 1024;
    let rt = m::runtime_of(m);
    if m.block.requests() & ask::STOP == 0 || stack::pointer() % FRAME_SIZE < WAY {
        return false;
    }
    stack::touch();
    let Some(must) = rt.world.must_stop(m.index) else { return false };
    stop_here(pinned, m, must);
    let _off = IrqGuard::new();
    // The next stop may have begun meanwhile, and its interrupt have come: that request stays.
    if rt.world.must_stop(m.index).is_none() {
        forget_stop();
    }
    ask_to_vacate(m);
    true
}

/// Follows a stop, in a goroutine, and comes back at its end with interrupts on.
///
/// The shortest way: the CPU counts as stopped before it moves to the kernel stack. That must not fault on the goroutine's, and
/// map a page in a stopped world.
#[inline]
fn stop_here(pinned: &Pinned, m: &'static M, must: MustStop<'_, Mark>) {
    m.stand(Start::here());
    hold::stop(must, Doing::Running);
    irq::enable();
    from_goroutine(pinned, || {
        let rt = m::runtime_of(m);
        hold::wait(rt, m);
        hold::hold(rt, m);
    });
    m.go_on();
}

/// Does what is asked, in a goroutine. It may come back on another CPU.
#[inline(never)]
fn answer(pinned: &Pinned) {
    let rt = m::runtime();
    let m = m::current(pinned);
    let asked = percpu::take_requests(pinned);
    if asked & ask::STOP != 0 && rt.world.must_stop(m.index).is_some() {
        m.stand(Start::here());
        // It stops there and not before: the way there may still fault on this stack, and map a page in a stopped world.
        from_goroutine(pinned, || hold::hold(rt, m));
        m.go_on();
    }
    if asked & ask::TRACE != 0 {
        schedtrace::print(rt);
    }
    if asked & ask::INPUT != 0 {
        // Not on the goroutine's stack, for the reason that timers are not run there.
        on_m(input::arrived);
    }
    let more = asked & ask::TIMERS != 0 && run_timers(rt, m);
    if more {
        // Not at once: the interrupt would find this call's own guard, whose end would answer it inside this call.
        tick::look_again(m);
    } else {
        set_timer_anew(m, asked);
    }
    if !m.is_active() && perform::give_away(pinned) {
        return;
    }
    // After timers because somebody may have become due, for whom a slice ends that was young enough before.
    if asked & (ask::PREEMPT | ask::TIMERS) != 0 && tick::is_armed(m) {
        perform::preempt(pinned);
    }
}

/// While these requests were pending, the timer was set to look after them.
fn set_timer_anew(m: &M, asked: u32) {
    if asked & (ask::TIMERS | ask::PREEMPT) != 0 {
        tick::rearm(m);
    }
}

/// Point 3: in the scheduler loop, with interrupts on. A slice that ends there has ended by itself.
pub(crate) fn in_loop(rt: &'static Runtime, m: &'static M) {
    if !m.block.is_asked() {
        return;
    }
    let pinned = Pinned::new();
    let asked = percpu::take_requests(&pinned);
    pinned.release();
    if asked & ask::STOP != 0 {
        hold::hold(rt, m);
    }
    if asked & ask::TRACE != 0 {
        schedtrace::print(rt);
    }
    if asked & ask::INPUT != 0 {
        input::arrived();
    }
    if asked & ask::TIMERS != 0 && run_timers(rt, m) {
        // After what was readied so far.
        let _off = IrqGuard::new();
        percpu::request(ask::TIMERS);
    }
    set_timer_anew(m, asked);
}

/// Runs a portion of this CPU's timers, and what others have forgotten. Whether something is left here.
///
/// On the kernel stack: a timer may start a goroutine, and the interrupted one need not have stack for that.
fn run_timers(rt: &'static Runtime, m: &M) -> bool {
    on_m(|| {
        let more = timers::run_due(rt, m);
        timers::run_late(rt, m, sysmon::OVERDUE);
        more
    })
}
