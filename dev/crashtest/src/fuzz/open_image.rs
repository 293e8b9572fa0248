//! A damaged store is opened, read, written, closed and opened again.

use crate::fuzz::damage::damage;
use crate::fuzz::image::{BASES, base_image, quiet};
use crate::fuzz::seal::seal;
use crate::fuzz::survey::live_with;
use crate::{Bytes, RandomSource};

/// Opens a damaged store. The first byte selects the store (2 bits), whether the page cache is
/// intact since the store was written (bit 2) and whether ordered indexes are kept (bit 3); the
/// second byte selects the checksums to recompute; the rest describes damage.
pub fn open_image(data: &[u8]) {
    let mut bytes = Bytes(data);
    let (how, seals) = (bytes.below(256), bytes.below(256));
    let mut image = base_image(how as usize % BASES).clone();
    damage(&mut image, &mut bytes);
    seal(&mut image, seals);
    live_with(&image.load(how & 4 != 0), quiet().ordered(how & 8 != 0));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::seal::{newest_checkpoint, set};

    /// Tests a regression: if a checkpoint with a correct checksum contained the largest possible
    /// `Seq`, `Seq + 1` wrapped around: no snapshot was pinned, and the next commit had number 0.
    #[test]
    fn checkpoint_of_last_seq_is_refused() {
        for seq in [1 << 62, u64::MAX] {
            let mut image = base_image(1).clone();
            let (path, at) = newest_checkpoint(&image).expect("the store was closed");
            set(image.files.get_mut(&path).expect("not found"), at + 48, seq);
            seal(&mut image, u64::MAX);
            let error = quiet().open_on(image.load(false)).err().map(|error| error.to_string());
            assert!(error.as_ref().is_some_and(|error| error.contains(&path)), "{error:?}");
        }
    }
}
