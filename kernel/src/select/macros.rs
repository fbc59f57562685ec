//! The macro `select!`.
//!
//! Each arm becomes a value on the caller's stack, with names of its own that the macro's step has made; then all
//! become cases, one is carried out, and the arms are gone before the chosen body runs: it may use, move and
//! change all that the arms have named.

/// Waits until one of several channels is ready, and does what that arm says. Go's `select`.
///
/// ```
/// use gzero::{chan, go, select};
///
/// let (numbers_in, numbers) = chan(0);
/// let (words_in, words) = chan(0);
/// let (out, results) = chan(1);
/// go(move || numbers_in.send(7).unwrap());
/// go(move || words_in.send("seven").unwrap());
/// let mut seen = 0;
/// while seen < 2 {
///     select! {
///         recv(numbers) -> n => if let Ok(n) = n { assert_eq!(n, 7); seen += 1; },
///         recv(words) -> word => {
///             if let Ok(word) = word {
///                 assert_eq!(word, "seven");
///                 seen += 1;
///             }
///         }
///         send(out, seen) -> sent => sent.unwrap(),
///     }
/// }
/// drop(results);
/// ```
///
/// | arm | is ready | its pattern gets |
/// |---|---|---|
/// | `recv(rx) -> pattern => body` | when `rx.recv()` would not wait | what that returns |
/// | `send(tx, value) -> pattern => body` | when `tx.send(value)` would not wait | what that returns |
/// | `after(time) => body` | when no other arm has been ready by then; a `Duration`, or an `Instant` | |
/// | `default => body` | when no other arm is ready | |
///
/// - Arms stand in any order; between them is a comma, which may be left out behind a block. The `-> pattern` of a `recv`
///   may be left out.
/// - The value of the whole is that of the body. Bodies belong to the caller's function: `return`, `break`, `continue` and
///   `?` do what they do outside.
/// - Channels and values are evaluated once, in the order of the arms, before anything else. A value moves only if its arm is
///   chosen; else it is dropped before the body runs (so clone what is to be sent at another try).
/// - With `after` the wait ends at that time. It takes no part in the draw: an arm that is ready goes first, even if the time
///   has passed. Where that must not be, receive from a [`time::after`](crate::time::after()), which is an arm like others. In a loop
///   a `Duration` begins anew each time; an `Instant` is one for all rounds.
/// - If several arms are ready, one is chosen at random, each as likely as the others.
/// - An arm whose channel is `None` ([`Source`](crate::select::Source), [`Sink`](crate::select::Sink)) is never chosen.
///   Without any other, and in `select! {}`, the goroutine waits for ever.
/// - A closed channel is ready.
/// - The arms are a hundred at most, if the crate does not raise its `recursion_limit`;
///   [`Select`](crate::select::Select) is for any number.
///
/// Unless there is a `default` it may block, so it is called on a goroutine's own stack. Nothing is allocated for the arms; but a
/// wait needs what any wait [in a channel](mod@crate::chan) does, and one with an `after` a timer, and the machine ends when there is no
/// memory for these.
///
/// # Throws
/// When not called on a goroutine's own stack, even with a `default`.
#[macro_export]
macro_rules! select {
    () => {
        $crate::select::for_ever()
    };
    ($($arms:tt)+) => {
        $crate::__select!(@arms [] $($arms)+)
    };
}

/// The steps of [`select!`]. One step of `@arms` reads one arm.
#[doc(hidden)]
#[macro_export]
macro_rules! __select {
    // All are read.
    (@arms [$({ $arm:ident $from:ident $result:ident $kind:ident $args:tt $pattern:tt $body:expr })+]) => {{
        const {
            let defaults = 0 $(+ $crate::__select!(@defaults $kind))+;
            let afters = 0 $(+ $crate::__select!(@afters $kind))+;
            ::core::assert!(defaults <= 1, "select!: two arms are the `default`; a select has one at most");
            ::core::assert!(afters <= 1, "select!: two arms are `after`; a select has one at most");
            ::core::assert!(defaults + afters <= 1, "select!: beside a `default` an `after` is never chosen");
        }
        let ($($result,)+) = {
            let mut limit = $crate::select::Limit::Endless;
            $($crate::__select!(@new $arm $from limit $kind $args);)+
            let chosen = $crate::select::run([$($arm.case()),+], limit);
            ($($arm.finish(chosen),)+)
        };
        $(
            if let ::core::option::Option::Some(result) = $result {
                $crate::__select!(@body $kind $pattern result $body)
            } else
        )+ {
            ::core::unreachable!("a select has chosen none of its arms")
        }
    }};

    // The default has nothing in parentheses.
    (@arms $arms:tt default => $($rest:tt)+) => {
        $crate::__select!(@arms $arms default() => $($rest)+)
    };
    // A block, with or without a comma; an expression before a comma, or at the end.
    (@arms [$($arms:tt)*] $kind:ident $args:tt $(-> $pattern:pat)? => $body:block, $($rest:tt)*) => {
        $crate::__select!(@arms [$($arms)* { arm from result $kind $args [$($pattern)?] $body }] $($rest)*)
    };
    (@arms [$($arms:tt)*] $kind:ident $args:tt $(-> $pattern:pat)? => $body:block $($rest:tt)*) => {
        $crate::__select!(@arms [$($arms)* { arm from result $kind $args [$($pattern)?] $body }] $($rest)*)
    };
    (@arms [$($arms:tt)*] $kind:ident $args:tt $(-> $pattern:pat)? => $body:expr, $($rest:tt)*) => {
        $crate::__select!(@arms [$($arms)* { arm from result $kind $args [$($pattern)?] $body }] $($rest)*)
    };
    (@arms [$($arms:tt)*] $kind:ident $args:tt $(-> $pattern:pat)? => $body:expr) => {
        $crate::__select!(@arms [$($arms)* { arm from result $kind $args [$($pattern)?] $body }])
    };
    (@arms [$($arms:tt)*] $($bad:tt)+) => {
        ::core::compile_error!(::core::concat!(
            "select!: this is no arm, or the comma before the next one is missing: `",
            ::core::stringify!($($bad)+),
            "`; arms are `recv(rx) -> pattern => body`, `send(tx, value) -> pattern => body`, `after(time) => body` and `default => body`"
        ))
    };

    // Which arms are the default.
    (@defaults default) => { 1 };
    (@defaults $other:ident) => { 0 };
    (@afters after) => { 1 };
    (@afters $other:ident) => { 0 };

    // The arms' values. A channel that is made in the arm lives as long as they do.
    (@new $arm:ident $from:ident $limit:ident recv ($receiver:expr)) => {
        let $from = &$receiver;
        let mut $arm = $crate::select::RecvArm::new($from);
    };
    (@new $arm:ident $from:ident $limit:ident send ($sender:expr, $value:expr $(,)?)) => {
        let $from = &$sender;
        let mut $arm = $crate::select::SendArm::new($from, $value);
    };
    (@new $arm:ident $from:ident $limit:ident default ()) => {
        let mut $arm = $crate::select::DefaultArm::new(&mut $limit);
    };
    (@new $arm:ident $from:ident $limit:ident after ($time:expr)) => {
        let mut $arm = $crate::select::AfterArm::new(&mut $limit, $time);
    };
    (@new $arm:ident $from:ident $limit:ident recv $args:tt) => {
        let mut $arm: $crate::select::DefaultArm = ::core::compile_error!(::core::concat!(
            "select!: `recv` takes one receiver: `recv(rx) -> pattern => body`, found `recv", ::core::stringify!($args), "`"
        ));
    };
    (@new $arm:ident $from:ident $limit:ident send $args:tt) => {
        let mut $arm: $crate::select::DefaultArm = ::core::compile_error!(::core::concat!(
            "select!: `send` takes a sender and a value: `send(tx, value) -> pattern => body`, found `send",
            ::core::stringify!($args), "`"
        ));
    };
    (@new $arm:ident $from:ident $limit:ident after $args:tt) => {
        let mut $arm: $crate::select::DefaultArm = ::core::compile_error!(::core::concat!(
            "select!: `after` takes one length of time or instant: `after(time) => body`, found `after", ::core::stringify!($args), "`"
        ));
    };
    (@new $arm:ident $from:ident $limit:ident default $args:tt) => {
        let mut $arm: $crate::select::DefaultArm = ::core::compile_error!("select!: `default` takes nothing: `default => body`");
    };
    (@new $arm:ident $from:ident $limit:ident $kind:ident $args:tt) => {
        let mut $arm: $crate::select::DefaultArm = ::core::compile_error!(::core::concat!(
            "select!: `", ::core::stringify!($kind), "` is no arm; arms are `recv(rx) -> pattern => body`, ",
            "`send(tx, value) -> pattern => body`, `after(time) => body` and `default => body`"
        ));
    };

    // A body, with what it sees of its arm.
    (@body send [] $result:ident $body:expr) => {
        ::core::compile_error!(
            "select!: `send` needs a pattern: `send(tx, value) -> sent => body`; `sent` gives the value back when the channel is closed"
        );
    };
    (@body default [$pattern:pat] $result:ident $body:expr) => {
        ::core::compile_error!("select!: `default` gets nothing: `default => body`");
    };
    (@body after [$pattern:pat] $result:ident $body:expr) => {
        ::core::compile_error!("select!: `after` gets nothing: `after(time) => body`");
    };
    (@body $kind:ident [] $result:ident $body:expr) => {{
        ::core::mem::drop($result);
        $body
    }};
    (@body $kind:ident [$pattern:pat] $result:ident $body:expr) => {
        match $result {
            $pattern => $body,
        }
    };
}
