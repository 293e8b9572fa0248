//! Recipes for common tasks, for users who know LMDB, redb or structchunk. Every example is
//! compiled and run with the tests, in an in-memory store. A store on disk is used in the same way
//! and is opened with `unsafe { Store::open(path)? }`.
//!
//! **Keys and order**:
//! [numeric keys](#order-of-numeric-keys) ·
//! [prefixes](#prefix-scans) ·
//! [arbitrary bytes as keys](#arbitrary-bytes-as-keys) ·
//! [several values per key](#several-values-per-key) ·
//! [secondary indexes](#secondary-indexes) ·
//! [unique fields](#unique-fields) ·
//! [first and last](#newest-row-and-next-free-number) ·
//! [counting](#counting-a-range) ·
//! [pagination](#pagination) ·
//! [batched look-ups](#batched-look-ups) ·
//! [conditions](#filtered-scans-without-an-index)
//!
//! **Writing**:
//! [own writes](#reading-uncommitted-writes) ·
//! [insert or update](#insert-or-update) ·
//! [compare and set](#compare-and-set) ·
//! [partial rollback](#partial-rollback) ·
//! [bulk loads](#bulk-loads) ·
//! [bulk changes](#changing-or-deleting-many-rows) ·
//! [crashes](#state-after-a-crash)
//!
//! **Values**:
//! [strings](#strings) ·
//! [optional values](#optional-values) ·
//! [NaN](#order-of-nan) ·
//! [comparing texts](#comparing-and-grouping-by-texts) ·
//! [nested arrays](#nested-arrays-of-structs) ·
//! [large blobs](#large-blobs-and-serialized-values) ·
//! [references](#references-between-rows) ·
//! [schema changes](#schema-changes)
//!
//! **Operation**:
//! [map size](#map-size) ·
//! [processes](#several-processes) ·
//! [threads](#sharing-a-snapshot-between-threads) ·
//! [long reads](#cost-of-a-long-lived-reader) ·
//! [backups](#backups) ·
//! [disk space](#disk-usage) ·
//! [verification](#verification)
//!
//! # Order of numeric keys
//! Integers keep their numeric order, including negative ones. So do times, floats in an index, and
//! keys of several fields, which are compared field by field. There is no byte order to choose and
//! nothing to encode: 255 sorts before 256, and -1 before 0. Strings are sorted by code point.
//!
//! ```
//! use pongo::prelude::*;
//!
//! #[pongo::record]
//! #[pongo(table = "readings")]
//! struct Reading {
//!     #[pongo(key)]
//!     level: i64,
//!     value: f64,
//! }
//!
//! let store = Store::in_memory()?;
//! let tx = store.begin_write()?;
//! tx.table::<Reading>()?.extend([256, -1, 255, 0, -300].map(|level| Reading { level, value: 0.5 }))?;
//! tx.commit()?;
//!
//! let snapshot = store.begin_read()?;
//! let readings = snapshot.table::<Reading>()?;
//! let levels = readings.range(-10..=255)?.map(|r| Ok(r?.level));
//! let levels = levels.collect::<Result<Vec<_>, pongo::ReadError>>()?;
//! assert_eq!(levels, [-1, 0, 255]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Prefix scans
//! Use [`Table::prefix`](crate::Table::prefix). A prefix is one of the following; no upper bound
//! has to be computed:
//!
//! - the first fields of the key as a tuple, with a trailing comma if it is a single field;
//! - the first characters of a [`FixedStr`](crate::FixedStr) key as a `&str`;
//! - the first bytes of a `Uuid`.
//!
//! ```
//! use pongo::prelude::*;
//!
//! #[pongo::record]
//! #[pongo(table = "files")]
//! struct File {
//!     #[pongo(key)]
//!     path: FixedStr<32>,
//!     bytes: u64,
//! }
//!
//! let store = Store::in_memory()?;
//! let tx = store.begin_write()?;
//! for path in ["src/lib.rs", "README.md", "src/main.rs", "srcs"] {
//!     tx.table::<File>()?.put(&File { path: path.parse()?, bytes: 10 })?;
//! }
//! tx.commit()?;
//!
//! let snapshot = store.begin_read()?;
//! let files = snapshot.table::<File>()?;
//! let paths = files.prefix("src/")?.map(|f| Ok(f?.path.to_string()));
//! let paths = paths.collect::<Result<Vec<_>, pongo::ReadError>>()?;
//! assert_eq!(paths, ["src/lib.rs", "src/main.rs"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Arbitrary bytes as keys
//! Write `key = "external"` above a struct that has no key field. Its values are stored under keys
//! of any bytes, as in LMDB, in byte order. Open its table with
//! [`external`](crate::WriteTransaction::external) instead of `table`; ranges return keys and
//! values. If the keys have a fixed form, key fields are faster and smaller.
//!
//! ```
//! use pongo::prelude::*;
//!
//! #[pongo::record]
//! #[pongo(table = "pages", key = "external")]
//! struct Page {
//!     visits: u64,
//! }
//!
//! let store = Store::in_memory()?;
//! let tx = store.begin_write()?;
//! let mut pages = tx.external::<Page>()?;
//! for url in ["/blog/2026/the-sea", "/about", "/blog"] {
//!     pages.put(url, &Page { visits: 1 })?;
//! }
//! pages.update("/about", |page| page.visits += 1)?;
//! drop(pages);
//! tx.commit()?;
//!
//! let snapshot = store.begin_read()?;
//! let pages = snapshot.external::<Page>()?;
//! assert_eq!(pages.get("/about")?.map(|page| page.visits), Some(2));
//! let below = pages.prefix("/blog/")?.map(|page| Ok(page?.0));
//! let below = below.collect::<Result<Vec<&[u8]>, pongo::ReadError>>()?;
//! assert_eq!(below, [b"/blog/2026/the-sea"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Several values per key
//! LMDB has `DUPSORT` and redb has multimaps for this. Here it is a key of two fields: the first is
//! the common part, the second tells the values apart. A value is a whole struct, and the values of
//! a key are sorted.
//!
//! ```
//! use pongo::prelude::*;
//!
//! #[pongo::record]
//! #[pongo(table = "tags")]
//! struct Tag {
//!     #[pongo(key)]
//!     photo: u64,
//!     #[pongo(key)]
//!     tag: FixedStr<8>,
//! }
//!
//! let store = Store::in_memory()?;
//! let tx = store.begin_write()?;
//! for (photo, tag) in [(7, "sea"), (7, "boat"), (8, "sea"), (7, "sea")] {
//!     tx.table::<Tag>()?.put(&Tag { photo, tag: tag.parse()? })?;
//! }
//! tx.commit()?;
//!
//! let snapshot = store.begin_read()?;
//! let tags = snapshot.table::<Tag>()?;
//! let of_7 = tags.prefix((7,))?.map(|t| Ok(t?.tag.to_string()));
//! let of_7 = of_7.collect::<Result<Vec<_>, pongo::ReadError>>()?;
//! assert_eq!(of_7, ["boat", "sea"]);
//! assert!(tags.contains(&(8, "sea".parse()?))?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Secondary indexes
//! Write `#[pongo(index)]` above a field, or `#[pongo(index(a, b))]` above the struct, and query it
//! with [`Table::by`](crate::Table::by). The index is maintained automatically: it follows each
//! commit and serves each snapshot. It can be added to a table that already has rows, and removed.
//!
//! ```
//! use pongo::prelude::*;
//!
//! #[pongo::record]
//! #[pongo(table = "songs", index(artist, year))]
//! struct Song {
//!     #[pongo(key)]
//!     id: u32,
//!     artist: FixedStr<10>,
//!     #[pongo(index)]
//!     year: u16,
//! }
//!
//! let store = Store::in_memory()?;
//! let tx = store.begin_write()?;
//! for (id, artist, year) in [(1, "Nina", 1965), (2, "Miles", 1959), (3, "Nina", 1958)] {
//!     tx.table::<Song>()?.put(&Song { id, artist: artist.parse()?, year })?;
//! }
//! tx.commit()?;
//!
//! let snapshot = store.begin_read()?;
//! let songs = snapshot.table::<Song>()?;
//! let ids = |rows: pongo::Range<'_, Song>| {
//!     rows.map(|s| Ok(s?.id)).collect::<Result<Vec<_>, pongo::ReadError>>()
//! };
//! assert_eq!(ids(songs.by(Song::YEAR).range(..1960)?)?, [3, 2]);
//! assert_eq!(ids(songs.by(Song::ARTIST).eq("Nina")?)?, [3, 1]);
//! assert_eq!(songs.by(Song::YEAR).rev()?.next().ok_or("there are some")??.id, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Unique fields
//! Write `#[pongo(unique)]` above a field, or `#[pongo(unique(a, b))]` above the struct. A second
//! row with the same value is rejected, in every process, with an error that names the field, the
//! value and the conflicting row. A unique field is also an index.
//!
//! A unique field may be a [`Maybe`](crate::Maybe): any number of rows may lack the value, as with
//! `NULL` in SQL. With `unique(a, b)`, a row that lacks one of the values is in conflict with no
//! other row.
//!
//! ```
//! use pongo::prelude::*;
//!
//! #[pongo::record]
//! #[pongo(table = "users")]
//! struct User {
//!     #[pongo(key)]
//!     id: u64,
//!     #[pongo(unique)]
//!     mail: FixedStr<24>,
//!     #[pongo(unique)]
//!     phone: Maybe<u64>,
//! }
//!
//! let store = Store::in_memory()?;
//! let tx = store.begin_write()?;
//! let mut users = tx.table::<User>()?;
//! users.put(&User { id: 1, mail: "ada@example.org".parse()?, phone: Maybe::none() })?;
//! let second = User { id: 2, mail: "ada@example.org".parse()?, phone: 555.into() };
//! let refusal = users.put(&second).unwrap_err();
//! assert!(refusal.to_string().contains("in the row with key id = 1"));
//! // The transaction continues.
//! users.put(&User { mail: "bob@example.org".parse()?, ..second })?;
//! users.put(&User { id: 3, mail: "cy@example.org".parse()?, phone: Maybe::none() })?;
//! drop(users);
//! tx.commit()?;
//!
//! let snapshot = store.begin_read()?;
//! let users = snapshot.table::<User>()?;
//! let bob = users.by(User::MAIL).eq("bob@example.org")?.next().ok_or("not found")??;
//! assert_eq!(bob.id, 2);
//! assert_eq!(users.by(User::PHONE).eq(555)?.next().ok_or("not found")??.id, 2);
//! assert_eq!(users.by(User::PHONE).eq(Maybe::none())?.count_rows()?, 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Newest row and next free number
//! [`Table::last`](crate::Table::last) returns the row with the highest key,
//! [`IndexView::last`](crate::IndexView::last) the row with the highest value of an index, and
//! every range can be read from its end with `rev()`. Compute the next number in the write
//! transaction, with its own reads ([`TableMut::last`](crate::TableMut::last)): they include all
//! earlier commits and the transaction's own rows, and no other writer runs at the same time. A
//! snapshot is not enough, even one taken after the transaction started: the previous commit may
//! still be waiting for its sync.
//!
//! ```
//! use pongo::prelude::*;
//!
//! #[pongo::record]
//! #[pongo(table = "notes")]
//! struct Note {
//!     #[pongo(key)]
//!     id: u64,
//!     text: Text,
//! }
//!
//! fn add(store: &Store, text: &str) -> Result<u64, Box<dyn std::error::Error>> {
//!     let tx = store.begin_write()?;
//!     let id = tx.table::<Note>()?.last()?.map_or(1, |note| note.id + 1);
//!     let text = tx.text(text)?;
//!     tx.table::<Note>()?.insert(&Note { id, text })?;
//!     tx.commit()?;
//!     Ok(id)
//! }
//!
//! let store = Store::in_memory()?;
//! assert_eq!((add(&store, "milk")?, add(&store, "bread")?), (1, 2));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Counting a range
//! Use [`Table::count`](crate::Table::count), or [`IndexView::count`](crate::IndexView::count) for
//! an index. Both scan the index at some nanoseconds per counted row and read no rows once the
//! index is up to date. [`Table::len`](crate::Table::len) takes constant time.
//!
//! ```
//! # use pongo::prelude::*;
//! # #[pongo::record]
//! # #[pongo(table = "trades")]
//! # struct Trade { #[pongo(key)] id: u64, #[pongo(index)] price: f64 }
//! # let store = Store::in_memory()?;
//! let tx = store.begin_write()?;
//! tx.table::<Trade>()?.extend((0..1000).map(|id| Trade { id, price: id as f64 / 10.0 }))?;
//! tx.commit()?;
//! let snapshot = store.begin_read()?;
//! let trades = snapshot.table::<Trade>()?;
//! assert_eq!(trades.len(), 1000);
//! assert_eq!(trades.count(100..200)?, 100);
//! assert_eq!(trades.by(Trade::PRICE).count(99.0..)?, 10);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Pagination
//! Store the [`Cursor`](crate::Cursor) of the last row as bytes, for example in a link. The next
//! page starts after it, on any snapshot and in any process, even if that row has been deleted
//! since. No rows are counted off from the start.
//!
//! ```
//! # use pongo::prelude::*;
//! # #[pongo::record]
//! # #[pongo(table = "trades")]
//! # struct Trade { #[pongo(key)] id: u64, price: f64 }
//! # let store = Store::in_memory()?;
//! # let tx = store.begin_write()?;
//! # tx.table::<Trade>()?.extend((0..5).map(|id| Trade { id, price: 0.5 }))?;
//! # tx.commit()?;
//! type Page = (Vec<u64>, Option<Vec<u8>>);
//! fn page(store: &Store, after: Option<&[u8]>) -> Result<Page, Box<dyn std::error::Error>> {
//!     let snapshot = store.begin_read()?;
//!     let mut rows = snapshot.table::<Trade>()?.range(..)?;
//!     if let Some(bytes) = after {
//!         rows = rows.start_after(&Cursor::from_bytes(bytes).ok_or("that was no cursor")?)?;
//!     }
//!     let ids = rows.by_ref().take(3).map(|trade| Ok(trade?.id)).collect::<Result<_, pongo::ReadError>>()?;
//!     Ok((ids, rows.cursor()?.map(|cursor| cursor.to_bytes())))
//! }
//!
//! let (ids, cursor) = page(&store, None)?;
//! assert_eq!(ids, [0, 1, 2]);
//! assert_eq!(page(&store, cursor.as_deref())?.0, [3, 4]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Batched look-ups
//! [`Table::get_many`](crate::Table::get_many) returns the rows in the order of the keys. Its
//! memory accesses overlap, so it is faster than one `get` per key wherever the table is larger
//! than the processor's caches.
//!
//! ```
//! # use pongo::prelude::*;
//! # #[pongo::record]
//! # #[pongo(table = "trades")]
//! # struct Trade { #[pongo(key)] id: u64, price: f64 }
//! # let store = Store::in_memory()?;
//! # let tx = store.begin_write()?;
//! # tx.table::<Trade>()?.extend((0..10).map(|id| Trade { id, price: id as f64 }))?;
//! # tx.commit()?;
//! let snapshot = store.begin_read()?;
//! let found = snapshot.table::<Trade>()?.get_many(&[8, 99, 2]).collect::<Result<Vec<_>, _>>()?;
//! let prices: Vec<_> = found.iter().map(|trade| trade.map(|t| t.price)).collect();
//! assert_eq!(prices, [Some(8.0), None, Some(2.0)]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Filtered scans without an index
//! Use [`Table::filter`](crate::Table::filter). A zone map stores the minimum and maximum of each
//! number, time and other short field per 64 KiB of rows, and zones that cannot match are skipped.
//! Fields whose values rise in insertion order, such as a time, need no index. `explain` reports
//! how much was skipped.
//!
//! ```
//! # use pongo::prelude::*;
//! # #[pongo::record]
//! # #[pongo(table = "trades")]
//! # struct Trade { #[pongo(key)] id: u64, time: Timestamp, price: f64 }
//! # let store = Store::in_memory()?;
//! # let tx = store.begin_write()?;
//! # let time = |id: u64| Timestamp::from_micros(id as i64);
//! # let rows = (0..100_000).map(|id| Trade { id, time: time(id), price: (id % 50) as f64 });
//! # tx.table::<Trade>()?.extend(rows)?;
//! # tx.commit()?;
//! let snapshot = store.begin_read()?;
//! let hour = Timestamp::from_micros(5_000)..Timestamp::from_micros(6_000);
//! let dear = Trade::TIME.between(hour).and(Trade::PRICE.gt(47.5));
//! let found = snapshot.table::<Trade>()?.filter(&dear);
//! let explain = found.explain()?;
//! assert!(explain.pruned.rows > 90_000, "{explain}");
//! assert_eq!(found.count(), 40);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Reading uncommitted writes
//! The transaction reads its own writes, for example with [`TableMut::get`](crate::TableMut::get).
//! Snapshots do not, not even in the same thread. A snapshot that was taken before the commit does
//! not see them after it either.
//!
//! ```
//! # use pongo::prelude::*;
//! # #[pongo::record]
//! # #[pongo(table = "accounts")]
//! # struct Account { #[pongo(key)] id: u64, cents: i64 }
//! # let store = Store::in_memory()?;
//! let before = store.begin_read()?;
//! let tx = store.begin_write()?;
//! let mut accounts = tx.table::<Account>()?;
//! accounts.put(&Account { id: 1, cents: 500 })?;
//! accounts.update(&1, |account| account.cents -= 120)?;
//! assert_eq!(accounts.get(&1)?.map(|account| account.cents), Some(380));
//! drop(accounts);
//! tx.commit()?;
//! assert!(before.table::<Account>()?.get(&1)?.is_none());
//! assert!(store.begin_read()?.table::<Account>()?.get(&1)?.is_some());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Insert or update
//! Use [`TableMut::entry`](crate::TableMut::entry), as of a `HashMap`: it looks the key up once.
//! [`replace`](crate::TableMut::replace) and [`take`](crate::TableMut::take) return the previous
//! row, where [`put`](crate::TableMut::put) and [`delete`](crate::TableMut::delete) return whether
//! there was one. A table with external keys has the same methods.
//!
//! ```
//! use pongo::prelude::*;
//!
//! #[pongo::record]
//! #[pongo(table = "visits")]
//! struct Visits {
//!     #[pongo(key)]
//!     page: u64,
//!     count: u64,
//! }
//!
//! let store = Store::in_memory()?;
//! let tx = store.begin_write()?;
//! let mut visits = tx.table::<Visits>()?;
//! for page in [7, 3, 7] {
//!     visits.entry(page)?.and_modify(|row| row.count += 1)?.or_insert(&Visits { page, count: 1 })?;
//! }
//! assert_eq!(visits.take(7)?.map(|row| row.count), Some(2));
//! assert!(visits.replace(&Visits { page: 7, count: 0 })?.is_none());
//! # drop(visits);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Compare and set
//! To compute a new row without a write transaction that keeps other writers waiting, read the row
//! in a snapshot and write it with
//! [`compare_and_set`](crate::TableMut::compare_and_set), which changes the row only if it has not
//! been changed in between. If it returns `false`, begin again.
//!
//! ```
//! # use pongo::prelude::*;
//! # #[pongo::record]
//! # #[pongo(table = "accounts")]
//! # struct Account { #[pongo(key)] id: u64, cents: i64 }
//! # let store = Store::in_memory()?;
//! # let tx = store.begin_write()?;
//! # tx.table::<Account>()?.put(&Account { id: 1, cents: 500 })?;
//! # tx.commit()?;
//! loop {
//!     let snapshot = store.begin_read()?;
//!     let before = snapshot.table::<Account>()?.get(1)?.ok_or("no such account")?;
//!     let after = Account { id: 1, cents: before.cents * 2 }; // takes long
//!     let tx = store.begin_write()?;
//!     if tx.table::<Account>()?.compare_and_set(1, Some(before), Some(&after))? {
//!         tx.commit()?;
//!         break;
//!     }
//! }
//! assert_eq!(store.begin_read()?.table::<Account>()?.get(1)?.map(|account| account.cents), Some(1000));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Partial rollback
//! Use a [savepoint](crate::WriteTransaction::savepoint):
//! [`rollback_to`](crate::WriteTransaction::rollback_to) undoes everything done since then, in all
//! tables, and the transaction stays open. Savepoints can be nested. A single call that returns an
//! error, such as an `insert` of an existing key, changes nothing and needs no savepoint.
//!
//! ```
//! # use pongo::prelude::*;
//! # #[pongo::record]
//! # #[pongo(table = "accounts")]
//! # struct Account { #[pongo(key)] id: u64, cents: i64 }
//! # let store = Store::in_memory()?;
//! # let mut tx = store.begin_write()?;
//! # tx.table::<Account>()?.extend([1, 2, 3].map(|id| Account { id, cents: 100 }))?;
//! # tx.commit()?;
//! let mut tx = store.begin_write()?;
//! for (from, to, cents) in [(1, 2, 70), (1, 3, 50), (2, 3, 150)] {
//!     let savepoint = tx.savepoint()?;
//!     let mut accounts = tx.table::<Account>()?;
//!     accounts.update(&to, |account| account.cents += cents)?;
//!     let left = accounts.update(&from, |account| { account.cents -= cents; account.cents })?;
//!     drop(accounts);
//!     if left < Some(0) {
//!         tx.rollback_to(&savepoint)?; // this payment only
//!     }
//!     tx.release(savepoint)?;
//! }
//! tx.commit()?;
//! # let snapshot = store.begin_read()?;
//! # let accounts = snapshot.table::<Account>()?;
//! # let cents = accounts.range(..)?.map(|a| Ok(a?.cents)).collect::<Result<Vec<_>, pongo::ReadError>>()?;
//! assert_eq!(cents, [30, 20, 250]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Bulk loads
//! Use [`TableMut::extend`](crate::TableMut::extend). It writes rows straight to the table's files
//! as the iterator yields them, and the journal only stores where they are. The rows can come in
//! any order. One transaction for all rows is fine, and atomic.
//! [`Store::catch_up_indexes`](crate::Store::catch_up_indexes) updates the ordered indexes right
//! away instead of at the first range.
//!
//! ```
//! # use pongo::prelude::*;
//! # #[pongo::record]
//! # #[pongo(table = "trades")]
//! # struct Trade { #[pongo(key)] id: u64, #[pongo(index)] price: f64 }
//! let store = Store::in_memory()?;
//! let tx = store.begin_write()?;
//! let rows = (0..100_000u64).map(|i| Trade { id: i * 7919 % 100_000, price: i as f64 });
//! assert_eq!(tx.table::<Trade>()?.extend(rows)?, 100_000);
//! tx.commit()?;
//! store.catch_up_indexes()?;
//! assert_eq!(store.begin_read()?.table::<Trade>()?.count(..500)?, 500);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Changing or deleting many rows
//! [`modify`](crate::TableMut::modify) and [`delete_range`](crate::TableMut::delete_range) take a
//! range of keys, [`by_mut`](crate::TableMut::by_mut) a range of another index, and
//! [`retain`](crate::TableMut::retain) and [`extract_if`](crate::TableMut::extract_if) any
//! condition. All of them act on the rows that exist when they are called, including those of the
//! same transaction, and never on rows they write themselves.
//!
//! ```
//! # use pongo::prelude::*;
//! # #[pongo::record]
//! # #[pongo(table = "trades")]
//! # struct Trade { #[pongo(key)] id: u64, #[pongo(index)] price: f64 }
//! # let store = Store::in_memory()?;
//! # let mut tx = store.begin_write()?;
//! # tx.table::<Trade>()?.extend((0..1000).map(|id| Trade { id, price: id as f64 }))?;
//! # tx.commit()?;
//! let tx = store.begin_write()?;
//! let mut trades = tx.table::<Trade>()?;
//! assert_eq!(trades.by_mut(Trade::PRICE).delete_range(..400.0)?, 400);
//! assert_eq!(trades.modify(990.., |trade| trade.price += 1000.0)?, 10);
//! assert_eq!(trades.delete_range(400..500)?, 100);
//! drop(trades);
//! tx.commit()?;
//! let snapshot = store.begin_read()?;
//! assert_eq!(snapshot.table::<Trade>()?.len(), 500);
//! assert_eq!(snapshot.table::<Trade>()?.by(Trade::PRICE).count(1990.0..)?, 10);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # State after a crash
//! The store contains every transaction whose `commit` returned, completely, and no part of any
//! other. With [`Durability::Sync`](crate::Durability), the default, this holds after a power
//! failure. With `Relaxed` it holds if the process is killed; a power failure can lose the last
//! seconds, in whole transactions, newest first. Opening the store recovers it; there is no repair
//! tool to run.
//!
//! ```
//! # use pongo::prelude::*;
//! # #[pongo::record]
//! # #[pongo(table = "trades")]
//! # struct Trade { #[pongo(key)] id: u64, price: f64 }
//! # let store = Store::in_memory()?;
//! let tx = store.begin_write_with(Durability::Relaxed)?; // no wait for the disk
//! tx.table::<Trade>()?.put(&Trade { id: 1, price: 2.0 })?;
//! tx.commit()?;
//! let tx = store.begin_write()?;
//! tx.table::<Trade>()?.put(&Trade { id: 2, price: 2.0 })?;
//! drop(tx); // as if the process had been killed here
//! assert_eq!(store.begin_read()?.table::<Trade>()?.len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Strings
//! Use [`FixedStr<N>`](crate::FixedStr) for up to `N` bytes in the row itself, which can be keys
//! and be compared, or [`Text`](crate::Text) for any length: 16 bytes in the row and the content in
//! the store's heap. `String` is rejected at compile time because it holds a pointer.
//!
//! ```
//! use pongo::prelude::*;
//!
//! #[pongo::record]
//! #[pongo(table = "books")]
//! struct Book {
//!     title: Text,
//!     #[pongo(key)]
//!     isbn: FixedStr<16>,
//! }
//!
//! let store = Store::in_memory()?;
//! let tx = store.begin_write()?;
//! let title = tx.text("The Sea, the Sea")?;
//! tx.table::<Book>()?.put(&Book { title, isbn: "978-0-14-118616-6"[4..].parse()? })?;
//! tx.commit()?;
//! let snapshot = store.begin_read()?;
//! let book = snapshot.table::<Book>()?.first()?.ok_or("not found")?;
//! assert_eq!(book.title.as_str(&snapshot)?, "The Sea, the Sea"); // borrowed from the map
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Optional values
//! Use [`Maybe<T>`](crate::Maybe), an `Option` with a fixed layout. No comparison is true for an
//! absent value: filters with `lt`, `ge`, `ne` and the others exclude it, and so do ranges of an
//! index whose bounds are values. To test for absence, use `is_none` and `is_some` in a filter and
//! `eq(Maybe::none())` in an index. In index order absent values come before all others.
//!
//! ```
//! use pongo::prelude::*;
//!
//! #[pongo::record]
//! #[pongo(table = "people")]
//! struct Person {
//!     #[pongo(key)]
//!     id: u32,
//!     #[pongo(index)]
//!     born: Maybe<i16>,
//! }
//!
//! let store = Store::in_memory()?;
//! let tx = store.begin_write()?;
//! tx.table::<Person>()?.put(&Person { id: 1, born: Maybe::some(1815) })?;
//! tx.table::<Person>()?.put(&Person { id: 2, born: None.into() })?;
//! tx.commit()?;
//! let snapshot = store.begin_read()?;
//! let people = snapshot.table::<Person>()?;
//! assert_eq!(people.get(&1)?.and_then(|person| person.born.to_option()), Some(1815));
//! assert_eq!(people.filter(Person::BORN.lt(1900)).count(), 1);
//! assert_eq!(people.by(Person::BORN).count(..Maybe::some(1900))?, 1);
//! assert_eq!(people.by(Person::BORN).first()?.map(|person| person.id), Some(2));
//! assert_eq!(people.by(Person::BORN).count(Maybe::none()..=Maybe::none())?, 1);
//! assert_eq!(people.filter(Person::BORN.is_none()).count(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Order of NaN
//! NaN sorts after infinity, and all NaNs are equal; `-0.0` equals `0.0`. PostgreSQL uses the same
//! order, and it applies to filters, ranges, indexes and unique fields. Rust's operators differ:
//! for them every comparison with NaN but `!=` is false.
//!
//! ```
//! use pongo::prelude::*;
//!
//! #[pongo::record]
//! #[pongo(table = "readings")]
//! struct Reading {
//!     #[pongo(key)]
//!     id: u64,
//!     #[pongo(index)]
//!     value: f64,
//! }
//!
//! let store = Store::in_memory()?;
//! let tx = store.begin_write()?;
//! let values = [f64::NAN, -0.0, 7.5, f64::INFINITY];
//! tx.table::<Reading>()?.extend((0..).zip(values).map(|(id, value)| Reading { id, value }))?;
//! tx.commit()?;
//! let snapshot = store.begin_read()?;
//! let readings = snapshot.table::<Reading>()?;
//! assert_eq!(readings.filter(Reading::VALUE.ge(0.0)).count(), 4);
//! assert_eq!(readings.by(Reading::VALUE).count(0.0..)?, 4);
//! assert_eq!(readings.by(Reading::VALUE).count(0.0..=f64::INFINITY)?, 3); // all but NaN
//! assert_eq!(readings.filter(Reading::VALUE.eq(f64::NAN)).count(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Comparing and grouping by texts
//! Compare texts by their contents, which a snapshot or the transaction lends.
//! [`Text`](crate::Text) and [`Blob`](crate::Blob) hold the address of their contents, and equal
//! contents can be stored at different addresses, so these types have neither `==` nor `Hash`.
//! [`as_str`](crate::Text::as_str) returns a `&str` that can be the key of a map.
//! [`content_eq`](crate::Text::content_eq) compares two texts and reads them only if their lengths
//! and hashes are equal; [`content_cmp`](crate::Text::content_cmp) orders them.
//!
//! ```
//! use std::collections::HashMap;
//!
//! use pongo::prelude::*;
//!
//! #[pongo::record]
//! #[pongo(table = "planes")]
//! struct Plane {
//!     #[pongo(key)]
//!     id: u64,
//!     model: Text,
//! }
//!
//! let store = Store::in_memory()?;
//! let tx = store.begin_write()?;
//! for (id, model) in ["A320", "B737", "A320", "A320"].into_iter().enumerate() {
//!     let model = tx.text(model)?;
//!     tx.table::<Plane>()?.put(&Plane { id: id as u64, model })?;
//! }
//! tx.commit()?;
//! let snapshot = store.begin_read()?;
//! let mut models: HashMap<&str, u32> = HashMap::new();
//! for plane in snapshot.table::<Plane>()?.rows() {
//!     *models.entry(plane?.model.as_str(&snapshot)?).or_default() += 1;
//! }
//! assert_eq!((models.len(), models["A320"]), (2, 3));
//! let planes = snapshot.table::<Plane>()?;
//! let [Some(first), Some(third)] = [planes.get(&0)?, planes.get(&2)?] else {
//!     return Err("they were put".into());
//! };
//! assert!(first.model.content_eq(&third.model, &snapshot)?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Nested arrays of structs
//! A record can contain arrays of arrays of records, up to 1 GiB. Large records need not be built
//! on the stack: [`TableMut::alloc`](crate::TableMut::alloc) returns a zeroed row that is stored in
//! the file already and is filled in place, like `new` of structchunk.
//!
//! ```
//! use pongo::prelude::*;
//!
//! #[pongo::record]
//! struct Cell {
//!     height: f32,
//!     water: f32,
//! }
//!
//! #[pongo::record]
//! #[pongo(table = "regions")]
//! struct Region {
//!     #[pongo(key)]
//!     id: u64,
//!     cells: [[Cell; 256]; 256], // half a megabyte
//! }
//!
//! let store = Store::in_memory()?;
//! let tx = store.begin_write()?;
//! let mut regions = tx.table::<Region>()?;
//! let mut region = regions.alloc()?;
//! region.id = 7;
//! region.cells[3][200].water = 0.5;
//! region.insert()?;
//! drop(regions);
//! tx.commit()?;
//! let snapshot = store.begin_read()?;
//! let region = snapshot.table::<Region>()?.get(&7)?.ok_or("not found")?;
//! assert_eq!((region.cells[3][200].water, region.cells[0][0].height), (0.5, 0.0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Large blobs and serialized values
//! Use a [`Blob`](crate::Blob), also for the output of serde: up to 4 GiB, 16 bytes in the row,
//! read as `&[u8]` from the map without a copy. Store whatever is searched or compared in separate
//! fields next to it.
//!
//! ```
//! use pongo::prelude::*;
//!
//! #[pongo::record]
//! #[pongo(table = "images")]
//! struct Image {
//!     png: Blob,
//!     #[pongo(key)]
//!     id: u64,
//! }
//!
//! let store = Store::in_memory()?;
//! let tx = store.begin_write()?;
//! let png = tx.blob(&[7; 1 << 20])?;
//! tx.table::<Image>()?.put(&Image { png, id: 1 })?;
//! tx.commit()?;
//! let snapshot = store.begin_read()?;
//! let image = snapshot.table::<Image>()?.get(&1)?.ok_or("not found")?;
//! let bytes: &[u8] = image.png.as_bytes(&snapshot)?;
//! assert_eq!(bytes.len(), 1 << 20);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # References between rows
//! Store the key of the other row in a field; following it costs a cache miss or two. A
//! [`RowId`](crate::RowId) permanently names one version of a row: an update writes a new row with
//! a new number. It converts to a location in the files (a chunk and an offset, as in structchunk)
//! and back, which suits tables whose rows never change.
//!
//! ```
//! use pongo::prelude::*;
//!
//! #[pongo::record]
//! #[pongo(table = "people")]
//! struct Person {
//!     #[pongo(key)]
//!     id: u32,
//!     boss: Maybe<u32>,
//! }
//!
//! let store = Store::in_memory()?;
//! let tx = store.begin_write()?;
//! tx.table::<Person>()?.put(&Person { id: 1, boss: None.into() })?;
//! tx.table::<Person>()?.put(&Person { id: 2, boss: Maybe::some(1) })?;
//! tx.commit()?;
//! let snapshot = store.begin_read()?;
//! let people = snapshot.table::<Person>()?;
//! let (row, person) = people.get_row(&2)?.ok_or("not found")?;
//! let boss = person.boss.get().ok_or("2 has one")?;
//! assert!(people.get(boss)?.is_some_and(|boss| boss.boss.is_none()));
//! let place = people.locate(row).ok_or("it was written")?;
//! assert_eq!((place.offset, people.row_at(place)), (size_of::<Person>() as u64, Some(row)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Schema changes
//! Opening a table as a struct with another layout is an error that shows both layouts side by
//! side; rows are never reinterpreted. Give the new struct a separate table and copy the rows in
//! one transaction. Renaming the struct and adding or removing a non-unique index do not need a
//! copy.
//!
//! ```
//! use pongo::prelude::*;
//!
//! #[pongo::record]
//! #[pongo(table = "trades")]
//! struct Old {
//!     #[pongo(key)]
//!     id: u64,
//!     price: f64,
//! }
//!
//! #[pongo::record]
//! #[pongo(table = "trades2")]
//! struct Trade {
//!     #[pongo(key)]
//!     id: u64,
//!     cents: i64,
//!     venue: FixedStr<8>,
//! }
//!
//! let store = Store::in_memory()?;
//! # let mut tx = store.begin_write()?;
//! # tx.table::<Old>()?.extend((0..10).map(|id| Old { id, price: 1.25 }))?;
//! # tx.commit()?;
//! let tx = store.begin_write()?;
//! {
//!     let old = tx.table::<Old>()?;
//!     tx.table::<Trade>()?.try_extend(old.rows()?.map(|old| {
//!         let cents = |price: f64| (price * 100.0).round() as i64;
//!         old.map(|old| Trade { id: old.id, cents: cents(old.price), venue: FixedStr::EMPTY })
//!     }))?;
//! }
//! tx.commit()?;
//! assert_eq!(store.begin_read()?.table::<Trade>()?.get(&3)?.map(|trade| trade.cents), Some(125));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Map size
//! There is no map size to set. A table is a sequence of chunk files that are mapped one after
//! another as it grows. Readers map new chunks when they first access them, and none has to be
//! closed for that. If the disk is full, the commit returns an error before it changes anything.
//!
//! ```
//! # use pongo::prelude::*;
//! # #[pongo::record]
//! # #[pongo(table = "trades")]
//! # struct Trade { #[pongo(key)] id: u64, price: f64 }
//! let store = Options::new().chunk_size(64 << 10).in_memory()?; // small chunks, so that there are many
//! let reader = store.begin_read()?;
//! for round in 0..5 {
//!     let tx = store.begin_write()?;
//!     tx.table::<Trade>()?.extend((0..20_000).map(|i| Trade { id: round * 20_000 + i, price: 0.5 }))?;
//!     tx.commit()?;
//! }
//! let stats = store.stats()?;
//! assert!(stats.tables[0].chunks > 5);
//! let latest = store.begin_read()?;
//! let lengths = latest.table::<Trade>()?.slices().map(|rows| rows.map_or(0, <[_]>::len));
//! assert_eq!(lengths.sum::<usize>(), 100_000);
//! # drop(reader);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Several processes
//! Up to 64 processes can use a store. Each opens it by its path, reads while another one writes,
//! and waits for its turn to write. A killed process leaves nothing to clean up. One process at a
//! time has the files of the ordered indexes open; the others answer ranges from the rows, which is
//! slower and returns the same results. Open the store once per process and clone the handle: a
//! second open returns the same store.
//!
//! ```
//! # use pongo::prelude::*;
//! # #[pongo::record]
//! # #[pongo(table = "trades")]
//! # struct Trade { #[pongo(key)] id: u64, price: f64 }
//! let store = Store::in_memory()?; // on the disk: unsafe { Store::open(path)? }, in each process
//! let writer = store.clone();
//! std::thread::spawn(move || -> Result<(), pongo::CommitError> {
//!     let tx = writer.begin_write()?;
//!     tx.table::<Trade>()?.put(&Trade { id: 1, price: 2.0 })?;
//!     tx.commit()?;
//!     Ok(())
//! }).join().map_err(|_| "the writer panicked")??;
//! assert!(store.begin_read()?.table::<Trade>()?.contains(&1)?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Sharing a snapshot between threads
//! A [`Snapshot`](crate::Snapshot), its tables and its rows can be shared by reference between any
//! number of threads, and sent to them. No reader slot is bound to a thread, and there is no flag
//! to set. `par_slices` and `filter(…).par()` split a table for rayon.
//!
//! ```
//! use pongo::prelude::*;
//! use pongo::rayon::prelude::*;
//! # #[pongo::record]
//! # #[pongo(table = "trades")]
//! # struct Trade { #[pongo(key)] id: u64, price: f64 }
//! # let store = Store::in_memory()?;
//! # let tx = store.begin_write()?;
//! # tx.table::<Trade>()?.extend((0..10_000).map(|id| Trade { id, price: 0.5 }))?;
//! # tx.commit()?;
//! let snapshot = store.begin_read()?;
//! let trades = snapshot.table::<Trade>()?;
//! std::thread::scope(|scope| {
//!     for id in [1, 5_000] {
//!         let trades = &trades;
//!         scope.spawn(move || assert!(trades.contains(&id).is_ok_and(|found| found)));
//!     }
//! });
//! let sum = trades.par_slices().map(|rows| Ok(rows?.iter().map(|trade| trade.price).sum::<f64>()));
//! assert_eq!(sum.sum::<Result<f64, pongo::ReadError>>()?, 5_000.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Cost of a long-lived reader
//! A reader waits for no writer, no writer waits for it, and the data it reads does not change. The
//! row versions visible to it stay on disk until it is dropped. Keep a snapshot for one request or
//! report, then take a new one, which costs a fraction of a microsecond.
//!
//! ```
//! # use pongo::prelude::*;
//! # #[pongo::record]
//! # #[pongo(table = "trades")]
//! # struct Trade { #[pongo(key)] id: u64, price: f64 }
//! # let store = Store::in_memory()?;
//! let mut seen = Vec::new();
//! for id in 0..3 {
//!     let snapshot = store.begin_read()?; // one a round
//!     seen.push(snapshot.table::<Trade>()?.len());
//!     let tx = store.begin_write()?;
//!     tx.table::<Trade>()?.put(&Trade { id, price: 0.5 })?;
//!     tx.commit()?;
//! }
//! assert_eq!(seen, [0, 1, 2]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Backups
//! Close the store in every process and copy its folder. The folders `ordered` and `hash` can be
//! left out because they are rebuilt. While the store is in use its files change independently, so
//! a copy of them is not consistent: copy the rows of a snapshot into another store instead, and
//! stage texts and blobs there again.
//!
//! ```
//! # use pongo::prelude::*;
//! # #[pongo::record]
//! # #[pongo(table = "notes")]
//! # struct Note { #[pongo(key)] id: u64, text: Text }
//! # let store = Store::in_memory()?;
//! # let tx = store.begin_write()?;
//! # let text = tx.text("buy milk")?;
//! # tx.table::<Note>()?.put(&Note { id: 1, text })?;
//! # tx.commit()?;
//! let backup = Store::in_memory()?; // on the disk: another folder
//! let snapshot = store.begin_read()?;
//! let tx = backup.begin_write()?;
//! for note in snapshot.table::<Note>()?.rows() {
//!     let note = note?;
//!     let text = tx.text(note.text.as_str(&snapshot)?)?;
//!     tx.table::<Note>()?.put(&Note { text, ..*note })?;
//! }
//! tx.commit()?;
//! # let copy = backup.begin_read()?;
//! # let note = copy.table::<Note>()?.get(&1)?.ok_or("it was copied")?;
//! assert_eq!(note.text.as_str(&copy)?, "buy milk");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Disk usage
//! [`Store::stats`](crate::Store::stats) reports it per table and part, and prints as a small
//! table. Rows that were replaced or deleted (`deleted`) keep their space in this version. To
//! reclaim it, copy the live rows into a new store, as for a backup.
//!
//! ```
//! # use pongo::prelude::*;
//! # #[pongo::record]
//! # #[pongo(table = "trades")]
//! # struct Trade { #[pongo(key)] id: u64, price: f64 }
//! # let store = Store::in_memory()?;
//! # for round in 0..3 {
//! #     let tx = store.begin_write()?;
//! #     tx.table::<Trade>()?.extend((0..1000).map(|id| Trade { id, price: f64::from(round) }))?;
//! #     tx.commit()?;
//! # }
//! let stats = store.stats()?;
//! println!("{stats}");
//! let trades = stats.tables.iter().find(|table| table.name == "trades").ok_or("there is one")?;
//! assert_eq!((trades.live, trades.deleted, trades.row_bytes), (1000, 2000, 16));
//! assert!(stats.bytes.rows >= 3000 * 16 && stats.bytes.rows < stats.bytes.total());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Verification
//! Data is always checked before it is returned. [`Store::verify`](crate::Store::verify) also reads
//! everything else: checksums, texts, marks, and the indexes against the rows in both directions.
//! Damaged indexes are rebuilt by [`Store::rebuild_indexes`](crate::Store::rebuild_indexes);
//! damaged rows need a backup.
//!
//! ```
//! # use pongo::prelude::*;
//! # #[pongo::record]
//! # #[pongo(table = "trades")]
//! # struct Trade { #[pongo(key)] id: u64, price: f64 }
//! # let store = Store::in_memory()?;
//! # let tx = store.begin_write()?;
//! # tx.table::<Trade>()?.extend((0..10).map(|id| Trade { id, price: 0.5 }))?;
//! # tx.commit()?;
//! let report = store.verify(|at| eprintln!("{}: {} of {} rows", at.table, at.done, at.rows))?;
//! if !report.is_valid() {
//!     eprintln!("{report}");
//!     store.rebuild_indexes()?;
//! }
//! # assert!(report.is_valid());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
