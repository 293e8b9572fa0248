use pongo::PaddingFree;
use pongo::prelude::*;

#[pongo::record]
#[pongo(table = "flights")]
struct Flight {
    #[pongo(key)]
    id: u64,
    cabin: u8,
    delay: f32,
}

#[pongo::record]
#[pongo(table = "images", key = "external")]
struct Image {
    taken: u32,
    kind: u8,
}

#[pongo::record]
#[pongo(table = "samples")]
struct Sample {
    #[pongo(key)]
    id: u64,
    value: f64,
}

fn generic<T: PongoRecord>(table: &mut TableMut<'_, T>) {
    let _ = table.alloc();
}

fn bounded<T: PongoRecord + PaddingFree>(table: &mut TableMut<'_, T>) {
    let _ = table.alloc();
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = Store::in_memory()?;
    let tx = store.begin_write()?;
    tx.table::<Flight>()?.alloc()?;
    tx.table::<Flight>()?.alloc_slice(2)?;
    tx.external::<Image>()?.alloc("alps")?;
    tx.table::<Sample>()?.alloc()?;
    Ok(())
}
