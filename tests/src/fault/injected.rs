//! A fault at work: what it counts, and how it is taken away.

use std::rc::Rc;

use anyhow::Result;

use crate::lab::bpf::Attached;

type Count<'lab> = Box<dyn Fn() -> Result<u64> + 'lab>;
type Undo<'lab> = Box<dyn FnOnce() -> Result<()> + 'lab>;

/// A fault at work.
pub struct Injected<'lab> {
    count: Count<'lab>,
    undo: Undo<'lab>,
}

impl<'lab> Injected<'lab> {
    pub(super) fn new(
        count: impl Fn() -> Result<u64> + 'lab,
        undo: impl FnOnce() -> Result<()> + 'lab,
    ) -> Self {
        Self { count: Box::new(count), undo: Box::new(undo) }
    }

    /// A program that counts what it strikes and goes when it is dropped.
    pub(super) fn attached(program: Attached) -> Self {
        let program = Rc::new(program);
        let counting = Rc::clone(&program);
        Self::new(
            move || counting.struck(),
            move || {
                drop(program);
                Ok(())
            },
        )
    }

    /// Puts `undo` before what undoes this already.
    pub(super) fn undone_by(self, undo: impl FnOnce() -> Result<()> + 'lab) -> Self {
        let Self { count, undo: rest } = self;
        let undo = Box::new(move || {
            undo()?;
            rest()
        });
        Self { count, undo }
    }

    /// Packets struck since the fault was injected, by the fault's own counter.
    pub fn struck(&self) -> Result<u64> {
        (self.count)()
    }

    /// Takes the fault away again.
    pub fn undo(self) -> Result<()> {
        (self.undo)()
    }
}
