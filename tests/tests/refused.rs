//! Programs that the compiler must refuse: each would use something after its end, or share what must not be shared.
//!
//! Each piece is compiled only with its own `--cfg 'refuse="NAME"'`; a step of `cargo test-all` does that for all of them, and wants the
//! error whose code stands at the beginning of the line above the attribute. Without one, the image compiles, and runs what is allowed.
#![no_std]
#![no_main]

use gzero::prelude::*;
use tests::{Verdict, equal};

tests::image! {
    pass: [what_is_allowed_compiles],
}

/// Borrows, disjoint parts, a value that is returned.
fn what_is_allowed_compiles() -> Verdict {
    let (text, mut parts) = (String::from("borrowed"), [0, 0]);
    let (left, right) = parts.split_at_mut(1);
    let length = scope(|s| {
        s.go(|| left[0] = 1);
        s.go(|| right[0] = 2);
        s.go(|| text.len()).join()
    });
    equal("the length and the parts", &(length, parts), &(8, [1, 2]))
}

/// E0373: what the function itself has made is gone before the goroutines end.
#[cfg(refuse = "scope_inner_borrow")]
fn inner_borrow() {
    scope(|s| {
        let local = String::from("gone");
        s.go(|| println!("{local}"));
    });
}

/// E0597: the same, moved in as a reference.
#[cfg(refuse = "scope_inner_reference")]
fn inner_reference() {
    scope(|s| {
        let local = String::from("gone");
        let borrowed = &local;
        s.go(move || println!("{borrowed}"));
    });
}

/// E0521: a handle does not leave the scope, …
#[cfg(refuse = "scope_handle_escapes")]
fn handle_escapes() {
    let mut kept = None;
    scope(|s| kept = Some(s.go(|| 1)));
    drop(kept);
}

/// E0521: … nor does the scope itself, to a goroutine that outlives it.
#[cfg(refuse = "scope_itself_escapes")]
fn scope_escapes() {
    scope(|s| {
        go(move || {
            s.go(|| 1);
        });
    });
}

/// E0499: two goroutines do not change one thing, …
#[cfg(refuse = "scope_two_writers")]
fn two_writers() {
    let mut n = 0;
    scope(|s| {
        s.go(|| n += 1);
        s.go(|| n += 1);
    });
}

/// E0506: … nor does the owner meanwhile.
#[cfg(refuse = "scope_owner_writes")]
fn owner_writes() {
    let mut n = 0;
    scope(|s| {
        s.go(|| println!("{n}"));
        n = 1;
    });
}

/// E0277: what belongs to one goroutine is not lent to another.
#[cfg(refuse = "scope_not_sync")]
fn not_sync() {
    let cell = core::cell::Cell::new(1);
    scope(|s| {
        s.go(|| cell.set(2));
    });
}

/// E0373: without a scope nothing may be borrowed.
#[cfg(refuse = "go_borrow")]
fn borrow_without_scope() {
    let n = 0;
    go(|| println!("{n}"));
}

/// E0277: what belongs to one goroutine is not moved to another, …
#[cfg(refuse = "go_not_send")]
fn not_send() {
    let shared = Rc::new(1);
    go(move || println!("{shared}"));
}

/// E0277: … nor returned to one.
#[cfg(refuse = "go_value_not_send")]
fn value_not_send() {
    drop(go(|| Rc::new(1)).join());
}

/// E0133: the end without a return is not safe.
#[cfg(refuse = "goexit_is_unsafe")]
fn goexit_is_unsafe() {
    gzero::goexit();
}

/// E0133: a ready that nobody owes would end a wait, and what the waiter has lent would be used on.
#[cfg(refuse = "goready_is_unsafe")]
fn goready_is_unsafe() {
    scope(|_| gzero::goready(gzero::current()));
}

/// E0133: it does not become safe on the way to `mcall`.
#[cfg(refuse = "goready_by_mcall")]
fn goready_by_mcall() {
    gzero::mcall(|g| gzero::goready(g));
}

/// E0133: keys that are no statics may have one address, and so one value, of two types.
#[cfg(refuse = "local_key_is_unsafe")]
fn local_key_is_unsafe() {
    const KEY: gzero::LocalKey<u64> = gzero::LocalKey::new(|| 1);
    KEY.with(|_| ());
}

/// E0133: the macro does not vouch for what makes the value.
#[cfg(refuse = "local_value_is_safe")]
goroutine_local! {
    static DANGEROUS: u64 = {
        #[expect(unsafe_code, reason = "the piece is about its call")]
        const unsafe fn dangerous() -> u64 {
            1
        }
        dangerous()
    };
}

goroutine_local! {
    static LOCAL: String = String::from("own");
}

/// E0521: a local value stays inside of the call. (It is used here so that it is not unused elsewhere.)
#[cfg(refuse = "local_escapes")]
fn local_escapes() {
    let mut kept: &String = &String::new();
    LOCAL.with(|text| kept = text);
    drop(kept.len());
}

/// error: select!: `receive` is no arm
#[cfg(refuse = "select_unknown_arm")]
fn select_unknown_arm(rx: &Receiver<u32>) {
    select! { receive(rx) -> _v => {} }
}

/// error: select!: `recv` takes one receiver
#[cfg(refuse = "select_recv_of_two")]
fn select_recv_of_two(rx: &Receiver<u32>) {
    select! { recv(rx, rx) -> _v => {} }
}

/// error: select!: `send` takes a sender and a value
#[cfg(refuse = "select_send_of_nothing")]
fn select_send_of_nothing(tx: &Sender<u32>) {
    select! { send(tx) -> _sent => {} }
}

/// error: select!: `send` needs a pattern
#[cfg(refuse = "select_send_unseen")]
fn select_send_unseen(tx: &Sender<u32>) {
    select! { send(tx, 1) => {} }
}

/// error: select!: this is no arm, or the comma before the next one is missing
#[cfg(refuse = "select_missing_comma")]
fn select_missing_comma(rx: &Receiver<u32>) {
    select! { recv(rx) -> v => drop(v) default => {} }
}

/// E0080: two arms for the same case.
#[cfg(refuse = "select_two_defaults")]
fn select_two_defaults(rx: &Receiver<u32>) {
    select! { recv(rx) -> _v => {}, default => {}, default => {} }
}

/// E0080: beside a default no time is waited for.
#[cfg(refuse = "select_default_and_after")]
fn select_default_and_after() {
    select! { default => {}, after(gzero::Nanos(1)) => {} }
}

/// E0308: the value is not the channel's.
#[cfg(refuse = "select_value_of_another_type")]
fn select_value_of_another_type(tx: &Sender<u32>) {
    select! { send(tx, "text") -> _sent => {} }
}

/// error[E0277]: `gzero::prelude::Vec<u32>` is no receiver
#[cfg(refuse = "select_no_channel")]
fn select_no_channel(rx: &Vec<u32>) {
    select! { recv(rx) -> _v => {} }
}
