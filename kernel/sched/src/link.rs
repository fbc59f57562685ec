//! Links: words that name one goroutine or one sudog, or nothing. Lists and trees are made of them, so that
//! queueing allocates nothing.

use core::marker::PhantomData;

use crate::id::{GoIndex, SudogIndex};
use crate::sync::Plain32;

/// The index of something that can be linked.
pub trait Index: Copy + PartialEq {
    /// What a link's word names: nothing when it is 0.
    fn in_word(word: u32) -> Option<Self>;

    /// As a link's word, which is not 0.
    fn word(self) -> u32;
}

macro_rules! index {
    ($($name:ident)*) => {$(
        impl Index for $name {
            #[inline]
            fn in_word(word: u32) -> Option<Self> {
                Self::in_word(word)
            }

            #[inline]
            fn word(self) -> u32 {
                self.word()
            }
        }
    )*};
}

index! { GoIndex SudogIndex }

/// A store whose elements can be linked, each into one list at a time.
pub trait Linked {
    /// How its elements are named.
    type Index: Index;

    /// The element behind this one in its list.
    ///
    /// May be called for an element that somebody else owns, and links meanwhile ([`free_list`](crate::free_list)): then it is any
    /// element that it was ever linked to, or none.
    fn next(&self, index: Self::Index) -> Option<Self::Index>;

    /// Unlinks the element from the one behind it, and returns that; only for the owner of the list.
    #[inline]
    fn take_next(&self, index: Self::Index) -> Option<Self::Index> {
        let next = self.next(index);
        self.set_next(index, None);
        next
    }

    /// Links the element; only for the owner of the list that it is in, or of the element if in none.
    fn set_next(&self, index: Self::Index, next: Option<Self::Index>);
}

/// A link. It has one writer at a time, like the [`Plain32`] that it is.
#[derive(Debug)]
pub(crate) struct Link<I>(Plain32, PhantomData<I>);

impl<I> Default for Link<I> {
    fn default() -> Self {
        Self::new()
    }
}

impl<I> Link<I> {
    /// A link to nothing.
    pub(crate) const fn new() -> Self {
        Self(Plain32::new(0), PhantomData)
    }
}

impl<I: Index> Link<I> {
    /// What it names.
    pub(crate) fn get(&self) -> Option<I> {
        I::in_word(self.0.get())
    }

    /// Changes what it names. Only for the link's owner.
    pub(crate) fn set(&self, target: Option<I>) {
        self.0.set(target.map_or(0, I::word));
    }
}

#[cfg(test)]
mod tests {
    use super::Link;
    use crate::id::{GoIndex, SudogIndex};

    #[test]
    fn a_link_names_what_it_was_set_to_or_nothing() {
        let link = Link::<GoIndex>::new();
        assert_eq!(link.get(), None);
        link.set(GoIndex::new(0));
        assert_eq!(link.get(), GoIndex::new(0));
        link.set(None);
        assert_eq!(link.get(), None);
        let link = Link::<SudogIndex>::new();
        link.set(SudogIndex::new(7));
        assert_eq!(link.get(), SudogIndex::new(7));
    }
}
