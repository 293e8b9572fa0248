//! A generic record is one error, whatever the program does with it.

use pongo::prelude::*;

#[derive(Clone)]
#[pongo::record]
#[derive(Debug, PartialEq)]
struct Row<T: Copy> {
    #[pongo(key)]
    id: u64,
    value: T,
}

impl<T: Copy> Row<T> {
    const LIMIT: u64 = 5;

    fn new(value: T) -> Self {
        Self { id: Self::LIMIT, value }
    }
}

#[pongo::record]
struct Lines<const N: usize> {
    #[pongo(key)]
    id: u64,
    #[pongo(key)]
    page: u32,
    #[pongo(index)]
    lines: [u64; N],
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = Store::in_memory()?;
    let tx = store.begin_write()?;
    let mut rows = tx.table::<Row<u64>>()?;
    rows.put(&Row { id: 1, value: 7 })?;
    rows.put(&Row::new(8))?;
    rows.update(1, |row| row.value += 1)?;
    for row in rows.range(5..)? {
        let row = row?;
        println!("{row:?} {}", row.value);
    }
    println!("{:?}", tx.table::<Lines<2>>()?.get((1, 2))?.map(|row| row.lines));
    drop(rows);
    tx.commit()?;
    let snapshot = store.begin_read()?;
    println!("{}", snapshot.table::<Row<u64>>()?.filter(Row::<u64>::VALUE.gt(5)).count());
    println!("{}", snapshot.table::<Lines<2>>()?.by(Lines::<2>::LINES).eq([1, 2])?.count());
    Ok(())
}
