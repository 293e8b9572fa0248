//! What may be found of a store after a power cut, while it is worked with.

use crate::{Transaction, World};
use pongo::Durability;

/// Every state a store may be in after a cut: those of all commits that began, from the newest on that must be there.
#[derive(Clone, Debug)]
pub struct Book {
    /// The state at `Seq` i is number i.
    worlds: Vec<World>,
    must: u64,
    /// The newest commit that said it is there, durable or not.
    told: u64,
}

impl Default for Book {
    fn default() -> Self {
        Self { worlds: vec![World::default()], must: 0, told: 0 }
    }
}

impl Book {
    /// The state with everything that began.
    #[must_use]
    pub fn newest(&self) -> &World {
        self.worlds.last().expect("there is always the empty one")
    }

    /// The newest commit that a cut may not take away.
    #[must_use]
    pub fn must(&self) -> u64 {
        self.must
    }

    /// A transaction is going to be performed on the newest state.
    pub fn begins(&mut self, transaction: &Transaction) {
        assert_eq!(transaction.after.seq, self.worlds.len() as u64, "commits are numbered");
        self.worlds.push(transaction.after.clone());
    }

    /// Its commit said that it is there.
    pub fn is_acknowledged(&mut self, transaction: &Transaction) {
        self.told = transaction.after.seq;
        if transaction.durability == Durability::Sync {
            self.must = transaction.after.seq;
        }
    }

    /// The store was closed in order, or opened after a crash: everything is durable.
    pub fn is_durable(&mut self) {
        self.must = self.newest().seq;
    }

    /// A process died, and this is the newest commit that the next one finds: what began behind it never was.
    ///
    /// # Errors
    /// A sentence, if that may not be: the system lives on, and everything that was acknowledged with it.
    pub fn is_left(&mut self, seq: u64) -> Result<(), String> {
        let newest = self.newest().seq;
        if !(self.told..=newest).contains(&seq) {
            return Err(format!(
                "{newest} commits began, {} were acknowledged, and {seq} are there",
                self.told
            ));
        }
        self.worlds.truncate(seq as usize + 1);
        self.told = seq;
        Ok(())
    }

    /// The state at a `Seq` that was found after a cut.
    ///
    /// # Errors
    /// A sentence, if that may not be.
    pub fn found(&self, seq: u64) -> Result<&World, String> {
        if seq < self.must {
            return Err(format!(
                "commit {} was acknowledged, and {seq} is the last that is there",
                self.must
            ));
        }
        let newest = self.newest().seq;
        self.worlds.get(seq as usize).ok_or_else(|| format!("{newest} commits began, and {seq} are there"))
    }
}
