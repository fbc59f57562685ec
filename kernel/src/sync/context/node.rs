//! A context in memory, and how a long way up goes.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;

use super::end::End;
use crate::time::Instant;

/// What a context adds to the one above it.
pub(super) enum Kind {
    Background,
    Cancel,
    Deadline,
    Value(Box<dyn Any + Send + Sync>),
    WithoutCancel,
}

pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) above: Option<Arc<Self>>,
    /// Its own, or that of the nearest above that has one.
    pub(super) end: Option<Arc<End>>,
    pub(super) deadline: Option<Instant>,
}

impl Drop for Node {
    /// Those above that nobody else has go one after another: the way up may be longer than a stack.
    fn drop(&mut self) {
        let mut next = self.above.take();
        // Of those who give up the last two at the same time, one gets the node.
        while let Some(mut node) = next.and_then(Arc::into_inner) {
            next = node.above.take();
        }
    }
}
