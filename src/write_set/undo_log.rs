//! An undo log for collections. It records changes only while a savepoint exists.

#[derive(Debug)]
pub(crate) struct UndoLog<S> {
    steps: Vec<S>,
    /// Whether a savepoint exists. Callers test this before they create a step.
    pub(super) enabled: bool,
}

impl<S> Default for UndoLog<S> {
    fn default() -> Self {
        Self { steps: Vec::new(), enabled: false }
    }
}

impl<S> UndoLog<S> {
    /// Records a step. Requires that recording is enabled.
    #[inline]
    pub(crate) fn push(&mut self, step: S) {
        debug_assert!(self.enabled, "steps are recorded only while a savepoint exists");
        self.steps.push(step);
    }

    /// Enables recording. Returns the number of recorded steps, which
    /// [`pop_until`](Self::pop_until) takes to undo back to this point.
    pub(crate) fn enable(&mut self) -> usize {
        self.enabled = true;
        self.steps.len()
    }

    /// Returns the number of recorded steps.
    pub(crate) fn len(&self) -> usize {
        self.steps.len()
    }

    /// Removes and returns the last step if more than `len` steps are recorded.
    pub(crate) fn pop_until(&mut self, len: usize) -> Option<S> {
        if self.steps.len() > len { self.steps.pop() } else { None }
    }

    /// Clears the log and disables recording. Called when no savepoint is left.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}
