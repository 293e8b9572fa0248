//! States that may be found after a power cut, recorded while a store is used.

use crate::{StoreModel, Transaction};
use pongo::Durability;

/// All states that a store may have after a cut: those of the started commits, from the newest
/// durable one on.
#[derive(Clone, Debug)]
pub struct ExpectedStates {
    /// `worlds[i]` is the state at `Seq` i.
    worlds: Vec<StoreModel>,
    must: u64,
    /// The newest acknowledged commit, durable or not.
    told: u64,
}

impl Default for ExpectedStates {
    fn default() -> Self {
        Self { worlds: vec![StoreModel::default()], must: 0, told: 0 }
    }
}

impl ExpectedStates {
    /// Returns the state after all started commits.
    #[must_use]
    pub fn newest(&self) -> &StoreModel {
        self.worlds.last().expect("there is always the empty one")
    }

    /// Returns the newest commit that must survive a cut.
    #[must_use]
    pub fn must(&self) -> u64 {
        self.must
    }

    /// Records the start of a transaction on the newest state.
    pub fn begins(&mut self, transaction: &Transaction) {
        assert_eq!(transaction.after.seq, self.worlds.len() as u64, "commits are numbered");
        self.worlds.push(transaction.after.clone());
    }

    /// Records that the commit of the transaction was acknowledged.
    pub fn is_acknowledged(&mut self, transaction: &Transaction) {
        self.told = transaction.after.seq;
        if transaction.durability == Durability::Sync {
            self.must = transaction.after.seq;
        }
    }

    /// Records that everything is durable: the store was closed cleanly, or opened after a crash.
    pub fn is_durable(&mut self) {
        self.must = self.newest().seq;
    }

    /// Records that a process was killed and that `seq` is the newest commit that the next process
    /// finds. Later commits are discarded.
    ///
    /// # Errors
    /// Returns a message if an acknowledged commit is missing: only a process was killed, so the
    /// operating system still has the data of all acknowledged commits.
    pub fn is_left(&mut self, seq: u64) -> Result<(), String> {
        let newest = self.newest().seq;
        if !(self.told..=newest).contains(&seq) {
            return Err(format!(
                "{newest} commits began, {} were acknowledged, {seq} are in the store",
                self.told
            ));
        }
        self.worlds.truncate(seq as usize + 1);
        self.told = seq;
        Ok(())
    }

    /// Returns the state at a `Seq` that was found after a cut.
    ///
    /// # Errors
    /// Returns a message if a durable commit is missing, or if no such commit was started.
    pub fn found(&self, seq: u64) -> Result<&StoreModel, String> {
        if seq < self.must {
            return Err(format!("commit {} was acknowledged, {seq} is the last in the store", self.must));
        }
        let newest = self.newest().seq;
        self.worlds
            .get(seq as usize)
            .ok_or_else(|| format!("{newest} commits were started, {seq} are in the store"))
    }
}
