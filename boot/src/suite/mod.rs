//! The whole check of the project as a list of steps, each a command that a user could type.
//!
//! [`plan`] says what is checked; [`images`] builds what is booted; [`step`] runs one step and judges it;
//! [`run`] goes through the list.

pub mod images;
pub mod plan;
pub mod refused;
pub mod run;
pub mod step;
