//! Decisions of the scheduler.
#![no_std]
#![forbid(unsafe_code)]
