//! What was done to a collection, step by step, so that it can be taken back: kept only while a savepoint lives.

/// Steps, the last one at the end.
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
    /// Notes a step, if steps are kept.
    #[inline]
    pub(crate) fn note(&mut self, step: impl FnOnce() -> S) {
        if self.kept {
            self.steps.push(step());
        }
    }

    /// From now on steps are kept. Returns how many there are: what [`pop_to`](Self::pop_to) takes to come back here.
    pub(crate) fn keep(&mut self) -> usize {
        self.kept = true;
        self.steps.len()
    }

    /// How many steps are kept.
    pub(crate) fn len(&self) -> usize {
        self.steps.len()
    }

    /// The last step, if there are more than `len`.
    pub(crate) fn pop_to(&mut self, len: usize) -> Option<S> {
        if self.steps.len() > len { self.steps.pop() } else { None }
    }

    /// Nobody will come back any more.
    pub(crate) fn end(&mut self) {
        *self = Self::default();
    }
}
