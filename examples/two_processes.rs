//! Two processes share one store: the child writes, the parent reads its commits.
//!
//! `cargo run --example two_processes`

use std::path::Path;
use std::process::Command;

use pongo::prelude::*;

#[pongo::record]
#[pongo(table = "messages")]
struct Message {
    text: Text,
    #[pongo(key)]
    id: u64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if let Some(path) = std::env::args().nth(1) {
        return write(Path::new(&path));
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("messages.pongo");
    // SAFETY: only PongoDB, in this process and in the child, changes the files of this folder.
    let store = unsafe { Store::open(&path)? };
    let before = store.begin_read()?;

    let mut child = Command::new(std::env::current_exe()?).arg(&path).spawn()?;
    if !child.wait()?.success() {
        return Err("the child failed".into());
    }

    // A snapshot that was taken before the commits does not see them; a new one does.
    assert_eq!(before.table::<Message>()?.len(), 0);
    let after = store.begin_read()?;
    for message in after.table::<Message>()?.range(..)? {
        println!("the child wrote: {}", message?.text.as_str(&after)?);
    }
    assert_eq!(after.table::<Message>()?.len(), 3);
    Ok(())
}

/// Runs in the child. Its transactions wait for those of other processes.
fn write(path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    // SAFETY: only PongoDB, in this process and in the parent, changes the files of this folder.
    let store = unsafe { Store::open(path)? };
    for text in ["hello", "from", "another process"] {
        let tx = store.begin_write()?;
        let mut messages = tx.table::<Message>()?;
        // Read in the transaction, so that no other process can take the same number.
        let id = messages.last()?.map_or(1, |message| message.id + 1);
        messages.insert(&Message { text: tx.text(text)?, id })?;
        drop(messages);
        tx.commit()?;
    }
    Ok(())
}
