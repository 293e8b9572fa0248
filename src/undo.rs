//! An undo log for collections. It records changes only while a savepoint exists.

/// Recorded steps, oldest first.
#[derive(Debug)]
pub(crate) struct Log<S> {
    steps: Vec<S>,
    kept: bool,
}

impl<S> Default for Log<S> {
    fn default() -> Self {
        Self { steps: Vec::new(), kept: false }
    }
}

impl<S> Log<S> {
    /// Records a step if recording is enabled.
    #[inline]
    pub(crate) fn note(&mut self, step: impl FnOnce() -> S) {
        if self.kept {
            self.steps.push(step());
        }
    }

    /// Enables recording. Returns the number of recorded steps, which [`pop_to`](Self::pop_to)
    /// takes to undo back to this point.
    pub(crate) fn keep(&mut self) -> usize {
        self.kept = true;
        self.steps.len()
    }

    /// Returns the number of recorded steps.
    pub(crate) fn len(&self) -> usize {
        self.steps.len()
    }

    /// Removes and returns the last step if more than `len` steps are recorded.
    pub(crate) fn pop_to(&mut self, len: usize) -> Option<S> {
        if self.steps.len() > len { self.steps.pop() } else { None }
    }

    /// Clears the log and disables recording. Called when no savepoint is left.
    pub(crate) fn end(&mut self) {
        *self = Self::default();
    }
}
