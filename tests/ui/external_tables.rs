use pongo::prelude::*;

#[pongo::record]
#[pongo(table = "images", key = "external")]
struct Image {
    #[pongo(index)]
    taken: u32,
}

#[pongo::record]
#[pongo(table = "trades")]
struct Trade {
    #[pongo(key)]
    id: u64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = Store::in_memory()?;
    let mut tx = store.begin_write()?;
    tx.table::<Image>()?;
    tx.external::<Trade>()?;
    let snapshot = store.begin_read()?;
    snapshot.table::<Image>()?;
    snapshot.external::<Trade>()?;
    snapshot.external::<Image>()?.by(Trade::ID);
    snapshot.external::<Image>()?.range(1..3)?;
    Ok(())
}
