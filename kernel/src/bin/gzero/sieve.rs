//! The concurrent prime sieve: a chain of goroutines, each of which passes on the numbers that its prime does not
//! divide.

use alloc::sync::Arc;

use gzero::{Mailbox, go};

/// Ends the chain.
const STOP: u64 = 0;

/// The sum of the first `count` primes, found by a chain of `count` filters.
pub(crate) fn run(count: u64) -> u64 {
    let first = Arc::new(Mailbox::new());
    let source = Arc::clone(&first);
    let done = Arc::new(Mailbox::new());
    let stop = Arc::clone(&done);
    go(move || {
        let mut number = 2;
        while stop.is_empty() {
            source.put(number);
            number += 1;
        }
        source.put(STOP);
    });
    let mut numbers = first;
    let mut sum = 0;
    for _ in 0..count {
        let prime = numbers.take();
        sum += prime;
        let filtered = Arc::new(Mailbox::new());
        let (from, to) = (numbers, Arc::clone(&filtered));
        go(move || filter(prime, &from, &to));
        numbers = filtered;
    }
    done.put(());
    while numbers.take() != STOP {}
    sum
}

fn filter(prime: u64, from: &Mailbox<u64>, to: &Mailbox<u64>) {
    loop {
        let number = from.take();
        if number == STOP {
            return to.put(STOP);
        }
        if !number.is_multiple_of(prime) {
            to.put(number);
        }
    }
}

/// The same sum by trial division.
pub(crate) fn expected(count: u64) -> u64 {
    let is_prime = |n: &u64| (2..*n).take_while(|d| d * d <= *n).all(|d| !n.is_multiple_of(d));
    (2..).filter(is_prime).zip(0..count).map(|(prime, _)| prime).sum()
}
