//! Mechanisms of the machine.
#![no_std]
