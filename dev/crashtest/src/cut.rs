//! Opens the image that a power cut left and compares it with the allowed states.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pongo_sim::{Image, Random};

use crate::{ExpectedStates, Mix, StoreModel, Transaction, look, options};

/// How thoroughly an image is tested.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Depth {
    /// Open it and compare its content.
    Look,
    /// Also verify it, commit once more, and open it again both without and with a clean close.
    GoOn,
}

/// Opens an image and compares its content with the allowed states. Returns all files as recovery
/// left them, while the store was open.
///
/// # Errors
/// Returns a description of the first defect, including panics.
pub fn survives(image: &Image, book: &ExpectedStates, depth: Depth) -> Result<Image, String> {
    let tried = catch_unwind(AssertUnwindSafe(|| try_image(image, book, depth)));
    tried.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panicked: {}", text.unwrap_or_default()))
    })
}

fn try_image(image: &Image, book: &ExpectedStates, depth: Depth) -> Result<Image, String> {
    let storage = image.storage();
    let store = options().open_on(storage.clone()).map_err(|error| format!("opening: {error}"))?;
    let seq = store.begin_read().map_err(|error| format!("begin_read: {error}"))?.seq().0;
    let world = book.found(seq)?;
    let recovered = Image::of(&*storage).map_err(|error| format!("reading it all: {error}"))?;
    same(&store, world, "as it was found")?;
    if depth == Depth::Look {
        return Ok(recovered);
    }
    sound(&store)?;
    let mut random = Random(image.hash(|_| false));
    let next = Transaction::arbitrary(world, &mut random, Mix::SMALL);
    next.apply(world, &store).map_err(|error| format!("one more commit: {error}"))?;
    same(&store, &next.after, "with one more commit")?;
    let left = Image::of(&*storage).map_err(|error| format!("reading it all: {error}"))?;
    drop(store);
    for (image, how) in [(left, "cut and reopened"), (Image::of(&*storage).unwrap(), "closed and reopened")] {
        let store = options().open_on(image.storage()).map_err(|error| format!("{how}: {error}"))?;
        same(&store, &next.after, how)?;
        sound(&store)?;
    }
    Ok(recovered)
}

fn same(store: &pongo::Store, world: &StoreModel, when: &str) -> Result<(), String> {
    let look = look(store, world);
    if look.wrong.is_empty() && look.errors.is_empty() {
        return Ok(());
    }
    Err(format!("{when}: wrong: {:#?}\nerrors: {:#?}", look.wrong, look.errors))
}

fn sound(store: &pongo::Store) -> Result<(), String> {
    let report = store.verify(|_| ()).map_err(|error| format!("verify: {error}"))?;
    if report.is_valid() { Ok(()) } else { Err(report.to_string()) }
}
