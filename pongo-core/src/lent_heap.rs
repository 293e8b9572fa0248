//! The heap of a store, lent to the current thread for the duration of a call: `serde` passes no
//! context to the values that it serializes.

use core::cell::Cell;
use core::ptr::NonNull;

use crate::error::WriteError;
use crate::fields::{Blob, HeapRead};

/// A write transaction to whose heap texts and blobs can be written.
pub trait HeapWrite {
    /// Stages bytes for a row of the transaction and returns the field that refers to them.
    ///
    /// # Errors
    /// [`WriteError`] if the bytes are too long or cannot be staged.
    fn write_heap(&self, bytes: &[u8]) -> Result<Blob, WriteError>;
}

/// A value that is lent to a thread: a pointer that is set for the duration of [`Lent::with`].
struct Lent<T: ?Sized + 'static>(Cell<Option<NonNull<T>>>);

impl<T: ?Sized> Lent<T> {
    const fn none() -> Self {
        Self(Cell::new(None))
    }

    /// Runs `body` with `value` lent, and restores the previous value after it, also if it panics.
    fn with<R>(&self, value: NonNull<T>, body: impl FnOnce() -> R) -> R {
        struct Restore<'a, T: ?Sized + 'static>(&'a Lent<T>, Option<NonNull<T>>);
        impl<T: ?Sized> Drop for Restore<'_, T> {
            fn drop(&mut self) {
                self.0.0.set(self.1);
            }
        }
        let _restore = Restore(self, self.0.replace(Some(value)));
        body()
    }
}

thread_local! {
    static READ: Lent<dyn HeapRead> = const { Lent::none() };
    static WRITE: Lent<dyn HeapWrite> = const { Lent::none() };
}

/// Runs `body`, in which this thread serializes [`Text`](crate::fields::Text) and [`Blob`] fields
/// with their contents from `heap`: a snapshot, or the write transaction from which the rows come.
///
/// Calls can be nested; the innermost one counts.
pub fn reading<R>(heap: &dyn HeapRead, body: impl FnOnce() -> R) -> R {
    let heap = NonNull::from(heap);
    // SAFETY: only the lifetime of the trait object changes, which has no influence on the layout
    // of the pointer. The pointer is dereferenced in `lent_reader` only, while `body` runs: `with`
    // restores the previous pointer before this function returns or unwinds, and `heap` is borrowed
    // until then.
    let heap = unsafe { core::mem::transmute::<NonNull<dyn HeapRead + '_>, NonNull<dyn HeapRead>>(heap) };
    READ.with(|lent| lent.with(heap, body))
}

/// Runs `body`, in which this thread deserializes [`Text`](crate::fields::Text) and [`Blob`]
/// fields: their contents are staged in `transaction`, and the fields can be put into rows of it.
///
/// Calls can be nested; the innermost one counts.
pub fn writing<R>(transaction: &dyn HeapWrite, body: impl FnOnce() -> R) -> R {
    let heap = NonNull::from(transaction);
    // SAFETY: as in `reading`, with `lent_writer`.
    let heap = unsafe { core::mem::transmute::<NonNull<dyn HeapWrite + '_>, NonNull<dyn HeapWrite>>(heap) };
    WRITE.with(|lent| lent.with(heap, body))
}

/// Calls `read` with the heap of the innermost [`reading`] of this thread; returns `None` outside
/// of one.
pub(crate) fn lent_reader<R>(read: impl FnOnce(&dyn HeapRead) -> R) -> Option<R> {
    let heap = READ.with(|lent| lent.0.get())?;
    // SAFETY: the pointer comes from the reference that `reading` got, and `reading` has not
    // returned: it resets the pointer first, and this thread runs inside its `body`. The reference
    // made here ends with `read`, before `body` does.
    Some(read(unsafe { heap.as_ref() }))
}

/// Calls `write` with the transaction of the innermost [`writing`] of this thread; returns `None`
/// outside of one.
pub(crate) fn lent_writer<R>(write: impl FnOnce(&dyn HeapWrite) -> R) -> Option<R> {
    let heap = WRITE.with(|lent| lent.0.get())?;
    // SAFETY: as in `lent_reader`, with `writing`.
    Some(write(unsafe { heap.as_ref() }))
}
