//! Every arrow from every state: the legal ones lead where the diagram says, the others change nothing.

use alloc::string::ToString;

use super::{Arrow, BadTransition, Cancelled, Parked, Ready, Status, StatusWord};

const ALL: [Status; 6] =
    [Status::Dead, Status::Runnable, Status::Running, Status::Parking, Status::Woken, Status::Waiting];

const ARROWS: [Arrow; 8] = [
    Arrow::Spawn,
    Arrow::Run,
    Arrow::Yielded,
    Arrow::BeginPark,
    Arrow::CancelPark,
    Arrow::FinishPark,
    Arrow::Ready,
    Arrow::Exit,
];

/// A word of generation 0 that was led to `status` by legal arrows.
fn word_in(status: Status) -> Result<StatusWord, BadTransition> {
    let word = StatusWord::new();
    if status == Status::Dead {
        return Ok(word);
    }
    assert_eq!(word.spawn()?, 0);
    if status == Status::Runnable {
        return Ok(word);
    }
    word.run()?;
    if status == Status::Running {
        return Ok(word);
    }
    word.begin_park()?;
    if status == Status::Woken {
        assert_eq!(word.ready(0)?, Ready::AlreadyUp);
    }
    if status == Status::Waiting {
        assert_eq!(word.finish_park()?, Parked::Waiting);
    }
    Ok(word)
}

/// Takes an arrow, with the right generation where it takes one.
fn take(word: &StatusWord, arrow: Arrow) -> Result<(), BadTransition> {
    match arrow {
        Arrow::Spawn => word.spawn().map(drop),
        Arrow::Run => word.run(),
        Arrow::Yielded => word.yielded(),
        Arrow::BeginPark => word.begin_park().map(drop),
        Arrow::CancelPark => word.cancel_park().map(drop),
        Arrow::FinishPark => word.finish_park().map(drop),
        Arrow::Ready => word.ready(word.get().1).map(drop),
        Arrow::Exit => word.exit(),
    }
}

/// Where an arrow leads from a state that it leaves.
fn target(arrow: Arrow, from: Status) -> (Status, u32) {
    let status = match (arrow, from) {
        (Arrow::Spawn | Arrow::Yielded, _)
        | (Arrow::FinishPark, Status::Woken)
        | (Arrow::Ready, Status::Waiting) => Status::Runnable,
        (Arrow::Run | Arrow::CancelPark, _) => Status::Running,
        (Arrow::BeginPark, _) => Status::Parking,
        (Arrow::FinishPark, _) => Status::Waiting,
        (Arrow::Ready, _) => Status::Woken,
        (Arrow::Exit, _) => return (Status::Dead, 1),
    };
    (status, 0)
}

#[test]
fn every_arrow_leaves_exactly_the_states_that_it_names() -> Result<(), BadTransition> {
    for from in ALL {
        for arrow in ARROWS {
            let word = word_in(from)?;
            assert_eq!(word.get(), (from, 0));
            let result = take(&word, arrow);
            if arrow.expected().contains(&from) {
                assert_eq!(result, Ok(()), "{arrow:?} leaves {from}");
                assert_eq!(word.get(), target(arrow, from), "{arrow:?} from {from}");
            } else {
                let handle = (arrow == Arrow::Ready).then_some(0);
                let bad = result.expect_err("it does not lead from there");
                let told = (bad.attempted(), bad.found(), bad.generation(), bad.handle());
                assert_eq!(told, (arrow, Some(from), 0, handle));
                assert_eq!(word.get(), (from, 0), "a refused {arrow:?} changes nothing");
            }
        }
    }
    Ok(())
}

#[test]
fn actions_say_who_enqueues() -> Result<(), BadTransition> {
    assert_eq!(word_in(Status::Waiting)?.ready(0), Ok(Ready::Enqueue));
    assert_eq!(word_in(Status::Parking)?.ready(0), Ok(Ready::AlreadyUp));
    assert_eq!(word_in(Status::Woken)?.finish_park(), Ok(Parked::MustEnqueue));
    assert_eq!(word_in(Status::Parking)?.finish_park(), Ok(Parked::Waiting));
    assert_eq!(word_in(Status::Parking)?.cancel_park(), Ok(Cancelled::Unwoken));
    assert_eq!(word_in(Status::Woken)?.cancel_park(), Ok(Cancelled::Woken));
    Ok(())
}

#[test]
fn an_exit_makes_handles_stale() -> Result<(), BadTransition> {
    let word = word_in(Status::Running)?;
    word.exit()?;
    assert_eq!(word.spawn(), Ok(1));
    word.run()?;
    word.begin_park()?;
    assert_eq!(word.finish_park(), Ok(Parked::Waiting));
    let stale = word.ready(0).expect_err("generation 0 has exited");
    assert!(stale.is_stale());
    assert_eq!(stale.to_string(), "ready: stale handle, generation 0 has exited and the slot is at 1");
    assert_eq!(word.ready(1), Ok(Ready::Enqueue));
    Ok(())
}

#[test]
fn errors_name_the_arrow_the_state_and_the_mend() -> Result<(), BadTransition> {
    let twice = word_in(Status::Woken)?.ready(0).expect_err("woken already");
    let text = "ready: the goroutine is woken, it must be waiting or parking (generation 0)";
    assert_eq!(twice.to_string(), text);
    let early = word_in(Status::Runnable)?.begin_park().expect_err("not running");
    assert_eq!(early.to_string(), "begin_park: the goroutine is runnable, it must be running (generation 0)");
    Ok(())
}

#[test]
fn a_word_that_holds_no_state_is_told_as_it_is() {
    let word = StatusWord(super::AtomicU64::new(0x7_0000_002a));
    for bad in [word.run(), word.exit(), word.finish_park().map(drop)].map(|step| step.expect_err("no state"))
    {
        assert_eq!((bad.found(), bad.generation()), (None, 7));
        assert!(bad.to_string().contains("the status is 0x70000002a, it must be "), "{bad}");
    }
}

#[test]
fn generations_wrap() {
    let word = StatusWord(super::AtomicU64::new(super::pack(Status::Running, u32::MAX)));
    assert_eq!(word.exit(), Ok(()));
    assert_eq!(word.get(), (Status::Dead, 0));
}
