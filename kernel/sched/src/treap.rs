//! Waiters by address: a tree with one node for each address, and behind each node those who wait there too.
//!
//! # Invariants
//!
//! 1. Search order: what is below a node's `prev` has smaller addresses, what is below `next` larger ones. So an
//!    address has one node.
//! 2. Heap order: no node's ticket is below its parent's. Tickets are random, so the tree is the one that
//!    insertion in a random order would give: its depth is logarithmic on average, whatever the addresses are.
//!    (Aragon and Seidel, "Randomized Search Trees", 1989.) Whoever comes into an empty tree may have [`FIRST`]: then it
//!    stays the root, above two trees like that.
//! 3. A node is the first waiter for its address. The others follow by `waitlink`; the node's `waittail` names
//!    the last of them, and nothing if there are no others. They have no other links.
//! 4. The child of a node has it as `parent`; the root has none.
//! 5. Tickets of nodes are not 0; who is taken out leaves with ticket 0, address 0, and no link.
//!
//! Tree operations take a logarithmic number of steps in the number of addresses; those on the waiters of one
//! address take a constant number.

use crate::id::SudogIndex;
use crate::link::Link;
use crate::sudog::{Sudog, Sudogs};

/// Where a new waiter stands among those who wait for the same address.
#[derive(Default, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// At the end.
    #[default]
    Fifo,
    /// At the head: the next release is for it.
    Lifo,
}

/// The tree. A plain structure, which a lock of the kernel guards together with the sudogs in it.
#[derive(Debug, Default)]
pub(crate) struct Treap {
    root: Option<SudogIndex>,
}

/// The lowest ticket, for whoever comes into an empty tree: most never see another one there.
pub(crate) const FIRST: u32 = 1;

/// Where the search for an address ended.
enum Found {
    /// At its node.
    Node(SudogIndex, &'static Sudog),
    /// At the node that a new one is to be put below, if there is any.
    Below(Option<SudogIndex>),
}

impl Treap {
    /// Adds a waiter whose address and random ticket are set; neither is 0.
    #[inline]
    pub(crate) fn insert(&mut self, sudogs: &Sudogs, (s, new): (SudogIndex, &Sudog), order: Order) {
        debug_assert!(new.address() != 0 && new.ticket() != 0, "a waiter has an address and a ticket");
        if self.root.is_none() {
            self.root = Some(s);
        } else {
            self.insert_among_others(sudogs, (s, new), order);
        }
    }

    #[inline(never)]
    fn insert_among_others(&mut self, sudogs: &Sudogs, (s, new): (SudogIndex, &Sudog), order: Order) {
        match (self.find(sudogs, new.address()), order) {
            (Found::Node(head, first), Order::Fifo) => {
                let tail = first.waittail.get().unwrap_or(head);
                sudogs.get(tail).waitlink.set(Some(s));
                first.waittail.set(Some(s));
            }
            (Found::Node(head, old), Order::Lifo) => {
                self.substitute(sudogs, (head, old), (s, new));
                new.waitlink.set(Some(head));
                new.waittail.set(Some(old.waittail.get().unwrap_or(head)));
                old.waittail.set(None);
            }
            (Found::Below(parent), Order::Fifo | Order::Lifo) => self.add_leaf(sudogs, (s, new), parent),
        }
    }

    /// Whether nobody waits.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// [`remove`](Self::remove), for who knows that one waits in all.
    #[inline]
    pub(crate) fn remove_only(
        &mut self,
        sudogs: &Sudogs,
        address: u64,
    ) -> Option<(SudogIndex, &'static Sudog)> {
        let root = self.root?;
        let node = sudogs.get(root);
        debug_assert!(is_alone(node), "somebody else waits");
        if node.address() != address {
            return None;
        }
        self.root = None;
        node.set_address(0);
        node.set_ticket(0);
        Some((root, node))
    }

    /// Takes out the first waiter for `address`; the next one takes its place.
    #[inline(never)]
    pub(crate) fn remove(&mut self, sudogs: &Sudogs, address: u64) -> Option<(SudogIndex, &'static Sudog)> {
        let Found::Node(head, old) = self.find(sudogs, address) else { return None };
        if let Some(second) = old.waitlink.get() {
            let new = sudogs.get(second);
            self.substitute(sudogs, (head, old), (second, new));
            // With nobody behind it, the new head would be its own tail.
            new.waittail.set(old.waittail.get().filter(|tail| *tail != second));
            old.waitlink.set(None);
            old.waittail.set(None);
        } else {
            self.remove_node(sudogs, (head, old));
        }
        old.set_address(0);
        old.set_ticket(0);
        Some((head, old))
    }

    /// Looks for the node of `address`.
    fn find(&self, sudogs: &Sudogs, address: u64) -> Found {
        let mut below = None;
        let mut at = self.root;
        while let Some(s) = at {
            let node = sudogs.get(s);
            if node.address() == address {
                return Found::Node(s, node);
            }
            below = at;
            at = side(node, address).get();
        }
        Found::Below(below)
    }

    /// Hangs a new node under `parent`, and lifts it until its ticket is not below its parent's.
    fn add_leaf(&mut self, sudogs: &Sudogs, (s, new): (SudogIndex, &Sudog), parent: Option<SudogIndex>) {
        new.parent.set(parent);
        match parent.map(|parent| sudogs.get(parent)) {
            None => self.root = Some(s),
            Some(parent) => side(parent, new.address()).set(Some(s)),
        }
        while let Some(parent) = new.parent.get()
            && sudogs.get(parent).ticket() > new.ticket()
        {
            self.lift(sudogs, s);
        }
    }

    /// Lets a node sink, by lifting the child with the smaller ticket, until it is a leaf, and cuts it off.
    fn remove_node(&mut self, sudogs: &Sudogs, (s, old): (SudogIndex, &Sudog)) {
        loop {
            let child = match (old.prev.get(), old.next.get()) {
                (None, None) => break,
                (Some(only), None) | (None, Some(only)) => only,
                (Some(prev), Some(next)) => {
                    if sudogs.get(prev).ticket() < sudogs.get(next).ticket() {
                        prev
                    } else {
                        next
                    }
                }
            };
            self.lift(sudogs, child);
        }
        self.replace_child(sudogs, old.parent.get(), s, None);
        old.parent.set(None);
    }

    /// Rotates a node above its parent; what was between the two changes sides.
    ///
    /// ```text
    ///       parent             s
    ///       /    \           /   \
    ///      s      c   ──►   a    parent      and mirrored
    ///     / \                    /    \
    ///    a   b                  b      c
    /// ```
    fn lift(&mut self, sudogs: &Sudogs, s: SudogIndex) {
        let node = sudogs.get(s);
        let p = node.parent.get().expect("only a node below another is lifted");
        let parent = sudogs.get(p);
        let grandparent = parent.parent.get();
        let (outer, inner) = if parent.prev.get() == Some(s) {
            (&parent.prev, &node.next)
        } else {
            debug_assert!(parent.next.get() == Some(s), "a node is a child of its parent");
            (&parent.next, &node.prev)
        };
        let between = inner.get();
        outer.set(between);
        if let Some(between) = between {
            sudogs.get(between).parent.set(Some(p));
        }
        inner.set(Some(p));
        parent.parent.set(Some(s));
        node.parent.set(grandparent);
        self.replace_child(sudogs, grandparent, p, Some(s));
    }

    /// Puts `new`, which is in no tree, into the place of the node `old`, whose tree links it leaves empty.
    fn substitute(
        &mut self,
        sudogs: &Sudogs,
        (old, from): (SudogIndex, &Sudog),
        (new, to): (SudogIndex, &Sudog),
    ) {
        to.set_ticket(from.ticket());
        if self.root == Some(old) && from.prev.get().is_none() && from.next.get().is_none() {
            // The only node: no link leads to it or from it.
            self.root = Some(new);
            return;
        }
        for (from, to) in [(&from.prev, &to.prev), (&from.next, &to.next)] {
            let child = from.get();
            to.set(child);
            from.set(None);
            if let Some(child) = child {
                sudogs.get(child).parent.set(Some(new));
            }
        }
        let parent = from.parent.get();
        to.parent.set(parent);
        from.parent.set(None);
        self.replace_child(sudogs, parent, old, Some(new));
    }

    /// Makes the link that leads down from `parent`, or from the root, to `old` lead to `new`.
    fn replace_child(
        &mut self,
        sudogs: &Sudogs,
        parent: Option<SudogIndex>,
        old: SudogIndex,
        new: Option<SudogIndex>,
    ) {
        let Some(parent) = parent.map(|parent| sudogs.get(parent)) else {
            self.root = new;
            return;
        };
        if parent.prev.get() == Some(old) {
            parent.prev.set(new);
        } else {
            debug_assert!(parent.next.get() == Some(old), "a node is a child of its parent");
            parent.next.set(new);
        }
    }
}

/// Whether a root is the only waiter of all.
#[inline]
fn is_alone(root: &Sudog) -> bool {
    [&root.prev, &root.next, &root.waitlink].iter().all(|link| link.get().is_none())
}

/// The side of a node on which an address belongs that is not the node's own.
fn side(node: &Sudog, address: u64) -> &Link<SudogIndex> {
    if address < node.address() { &node.prev } else { &node.next }
}

#[cfg(test)]
#[path = "tests/treap.rs"]
pub(crate) mod tests;
