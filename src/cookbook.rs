//! How do I …? One recipe a question that users of LMDB, redb and structchunk ask. Every program here is compiled and run
//! with the tests, in a store in memory; on the disk it is the same, with `unsafe { Store::open(path)? }`.
//!
//! **Keys and order**:
//! [numbers in order](#do-number-keys-keep-their-order) ·
//! [prefixes](#how-do-i-go-through-all-keys-with-a-prefix) ·
//! [any bytes as key](#how-do-i-take-any-bytes-as-a-key) ·
//! [several values a key](#how-do-i-keep-several-values-under-one-key) ·
//! [another field](#how-do-i-find-rows-by-another-field) ·
//! [unique fields](#how-do-i-keep-a-field-unique) ·
//! [first and last](#how-do-i-get-the-newest-row-or-the-next-free-number) ·
//! [counting](#how-do-i-count-a-range) ·
//! [pages](#how-do-i-give-results-out-in-pages) ·
//! [many keys](#how-do-i-look-many-keys-up-at-once) ·
//! [conditions](#how-do-i-scan-for-a-condition-without-an-index)
//!
//! **Writing**:
//! [own writes](#do-i-see-my-own-writes-before-the-commit) ·
//! [taking a part back](#how-do-i-take-back-a-part-of-a-transaction) ·
//! [bulk loads](#how-do-i-load-millions-of-rows) ·
//! [many at once](#how-do-i-change-or-delete-many-rows) ·
//! [crashes](#what-is-left-after-a-crash)
//!
//! **Values**:
//! [strings](#how-do-i-keep-strings) ·
//! [what may be missing](#how-do-i-keep-a-value-that-may-be-missing) ·
//! [NaN](#where-does-nan-stand-in-the-order) ·
//! [comparing texts](#how-do-i-compare-or-group-by-texts) ·
//! [nested arrays](#how-do-i-keep-arrays-of-structs-in-a-struct) ·
//! [large blobs](#how-do-i-keep-large-blobs-or-values-that-serde-makes) ·
//! [references](#how-does-one-row-refer-to-another) ·
//! [changing a struct](#how-do-i-change-a-struct)
//!
//! **Running it**:
//! [map size](#how-large-must-the-map-be) ·
//! [processes](#can-several-processes-use-a-store) ·
//! [threads](#how-do-threads-share-a-snapshot) ·
//! [long reads](#what-does-a-reader-cost-that-stays) ·
//! [backups](#how-do-i-make-a-backup) ·
//! [space](#what-takes-the-space-and-how-do-i-get-it-back) ·
//! [verifying](#how-do-i-know-that-a-store-is-sound)
//!
//! # Do number keys keep their order?
//! Yes: integers, negative ones too, times, floats in an index, and keys of several fields, the first before the second. There is no
//! byte order to choose and nothing to encode; 255 comes before 256, and -1 before 0. Strings are in the order of their code points.
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
//! let levels = readings.range(-10..=255)?.map(|r| Ok(r?.level)).collect::<Result<Vec<_>, pongo::ReadError>>()?;
//! assert_eq!(levels, [-1, 0, 255]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How do I go through all keys with a prefix?
//! With [`Table::prefix`](crate::Table::prefix). The first fields of a key are a prefix of it, given as a tuple, with a comma behind a
//! single one; so are the first letters of a [`FixedStr`](crate::FixedStr) key, given as a `&str`, and the first bytes of a `Uuid`. No
//! upper bound has to be made up.
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
//! let paths = files.prefix("src/")?.map(|f| Ok(f?.path.to_string())).collect::<Result<Vec<_>, pongo::ReadError>>()?;
//! assert_eq!(paths, ["src/lib.rs", "src/main.rs"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How do I take any bytes as a key?
//! Write `key = "external"` above a struct that has no key field: its values are kept under keys of any bytes, as in LMDB, in the order of
//! the bytes. Its table is [`external`](crate::WriteTransaction::external) in place of `table`, and ranges give keys and values. Where keys
//! have a fixed form, fields are quicker and smaller.
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
//! let below = pages.prefix("/blog/")?.map(|page| Ok(page?.0)).collect::<Result<Vec<&[u8]>, pongo::ReadError>>()?;
//! assert_eq!(below, [b"/blog/2026/the-sea"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How do I keep several values under one key?
//! What LMDB does with `DUPSORT` and redb with a multimap is a key of two fields here: what the values have in common, then what
//! tells them apart. A value is a whole struct, and the values of a key are in order.
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
//! let of_7 = tags.prefix((7,))?.map(|t| Ok(t?.tag.to_string())).collect::<Result<Vec<_>, pongo::ReadError>>()?;
//! assert_eq!(of_7, ["boat", "sea"]);
//! assert!(tags.contains(&(8, "sea".parse()?))?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How do I find rows by another field?
//! Write `#[pongo(index)]` above it, or `#[pongo(index(a, b))]` above the struct, and ask with [`Table::by`](crate::Table::by). Nothing
//! has to be kept in step by hand: the index follows each commit, for each snapshot. It can be added to a table that has rows, and taken
//! away.
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
//! let ids = |rows: pongo::Range<'_, Song>| rows.map(|s| Ok(s?.id)).collect::<Result<Vec<_>, pongo::ReadError>>();
//! assert_eq!(ids(songs.by(Song::YEAR).range(..1960)?)?, [3, 2]);
//! assert_eq!(ids(songs.by(Song::ARTIST).equal("Nina")?)?, [3, 1]);
//! assert_eq!(songs.by(Song::YEAR).rev()?.next().ok_or("there are some")??.id, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How do I keep a field unique?
//! Write `#[pongo(unique)]` above it, or `#[pongo(unique(a, b))]` above the struct. A second row with the value is refused by whatever
//! process writes it, with an error that names the field, the value and the row in the way. A unique field is an index as well.
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
//! }
//!
//! let store = Store::in_memory()?;
//! let tx = store.begin_write()?;
//! let mut users = tx.table::<User>()?;
//! users.put(&User { id: 1, mail: "ada@example.org".parse()? })?;
//! let refusal = users.put(&User { id: 2, mail: "ada@example.org".parse()? }).unwrap_err();
//! assert!(refusal.to_string().contains("in the row with key id = 1"));
//! users.put(&User { id: 2, mail: "bob@example.org".parse()? })?; // the transaction goes on
//! drop(users);
//! tx.commit()?;
//!
//! let snapshot = store.begin_read()?;
//! let bob = snapshot.table::<User>()?.by(User::MAIL).equal("bob@example.org")?.next().ok_or("he is there")??;
//! assert_eq!(bob.id, 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How do I get the newest row, or the next free number?
//! [`Table::last`](crate::Table::last) gives the row with the highest key, [`By::last`](crate::By::last) that with the highest value of
//! an index, and every range can be read from its end, with `rev()`. Take the next number in the write transaction, by its own
//! reads ([`TableMut::last`](crate::TableMut::last)): it reads all commits before it and its own rows, and nobody else writes meanwhile. A
//! snapshot will not do, even one that was begun after the transaction: the commit before may still wait for its sync.
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
//! # How do I count a range?
//! [`Table::count`](crate::Table::count), and [`By::count`](crate::By::count) for an index. Both go through the index, some nanoseconds a row
//! counted; rows are not read once it is up to date. [`Table::len`](crate::Table::len) is there at once.
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
//! # How do I give results out in pages?
//! Keep the [`Cursor`](crate::Cursor) of the last row as bytes: in a link, say. The next page begins behind it, on whatever snapshot and in
//! whatever process, also if that row was deleted meanwhile. Nothing is counted off from the start.
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
//! fn page(store: &Store, after: Option<&[u8]>) -> Result<(Vec<u64>, Option<Vec<u8>>), Box<dyn std::error::Error>> {
//!     let snapshot = store.begin_read()?;
//!     let mut rows = snapshot.table::<Trade>()?.range(..)?;
//!     if let Some(bytes) = after {
//!         rows = rows.after(&Cursor::from_bytes(bytes).ok_or("that was no cursor")?)?;
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
//! # How do I look many keys up at once?
//! [`Table::get_many`](crate::Table::get_many): answers come in the order of the keys. The waits for memory overlap, so it is quicker than
//! as many `get`s wherever the table is larger than the processor's caches.
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
//! assert_eq!(found.iter().map(|trade| trade.map(|t| t.price)).collect::<Vec<_>>(), [Some(8.0), None, Some(2.0)]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How do I scan for a condition without an index?
//! With [`Table::filter`](crate::Table::filter). The least and the greatest value of each field is known for each 64 KiB of rows: what
//! cannot match is passed over. Fields that rise as rows come, such as a time, need no index. `explain` says what was passed over.
//!
//! ```
//! # use pongo::prelude::*;
//! # #[pongo::record]
//! # #[pongo(table = "trades")]
//! # struct Trade { #[pongo(key)] id: u64, time: Timestamp, price: f64 }
//! # let store = Store::in_memory()?;
//! # let tx = store.begin_write()?;
//! # let rows = (0..100_000).map(|id| Trade { id, time: Timestamp::from_micros(id as i64), price: (id % 50) as f64 });
//! # tx.table::<Trade>()?.extend(rows)?;
//! # tx.commit()?;
//! let snapshot = store.begin_read()?;
//! let hour = Timestamp::from_micros(5_000)..Timestamp::from_micros(6_000);
//! let dear = Trade::TIME.between(hour).and(Trade::PRICE.gt(47.5));
//! let found = snapshot.table::<Trade>()?.filter(&dear);
//! let explain = found.explain()?;
//! assert!(explain.skipped.rows > 90_000, "{explain}");
//! assert_eq!(found.count(), 40);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Do I see my own writes before the commit?
//! In the transaction, yes: [`TableMut::get`](crate::TableMut::get) has them. Snapshots do not, not even those of the same thread, and not
//! even after the commit if they were begun before it.
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
//! # How do I take back a part of a transaction?
//! With a [savepoint](crate::WriteTransaction::savepoint): [`rollback_to`](crate::WriteTransaction::rollback_to) takes back what was done
//! since, in all tables, and the transaction goes on. Savepoints can be nested. A call that errs by itself, such as an
//! `insert` of a key that is there, changes nothing and needs none.
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
//! # How do I load millions of rows?
//! With [`TableMut::extend`](crate::TableMut::extend): rows go straight to the table's files as the iterator gives them, and the journal
//! only says where they lie. They can come in any order. One transaction for all is fine, and all or nothing. [`Store::settle`](crate::Store::settle)
//! brings the ordered indexes up at once, instead of at the first range.
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
//! store.settle()?;
//! assert_eq!(store.begin_read()?.table::<Trade>()?.count(..500)?, 500);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How do I change or delete many rows?
//! [`modify`](crate::TableMut::modify) and [`delete_range`](crate::TableMut::delete_range) take a range of keys,
//! [`by_mut`](crate::TableMut::by_mut) a range of another index, [`retain`](crate::TableMut::retain) and
//! [`extract_if`](crate::TableMut::extract_if) any condition. All act on the rows that are there when they are called, those of
//! this transaction included, and never on what they put themselves.
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
//! # What is left after a crash?
//! Every transaction whose `commit` returned, as a whole, and nothing of the others. With [`Durability::Sync`](crate::Durability), the
//! default, that holds for power cuts; with `Relaxed` it holds for a process that is killed, and a power cut can take the last seconds,
//! again whole transactions, the newest first. Opening repairs by itself; there is no tool to run.
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
//! drop(tx); // as if the process had died here
//! assert_eq!(store.begin_read()?.table::<Trade>()?.len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How do I keep strings?
//! As [`FixedStr<N>`](crate::FixedStr), up to `N` bytes in the row itself, where they can be keys and be compared; or as
//! [`Text`](crate::Text), of any length, 16 bytes in the row and the rest in the store's heap. `String` is refused at compile time: it
//! would be a pointer.
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
//! let book = snapshot.table::<Book>()?.first()?.ok_or("it is there")?;
//! assert_eq!(book.title.as_str(&snapshot)?, "The Sea, the Sea"); // borrowed from the map
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How do I keep a value that may be missing?
//! As [`Maybe<T>`](crate::Maybe), an `Option` whose bytes are fixed. No comparison is true of an absent value: filters by `lt`, `ge`,
//! `ne` and the others leave it out, and so do ranges of an index whose bounds are values. To ask for it: `is_none` and `is_some`
//! in a filter, `equal(Maybe::none())` in an index. An index as a whole has it before all others.
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
//! # Where does NaN stand in the order?
//! Behind infinity, and every NaN equals every other; `-0.0` equals `0.0`. That is the order of PostgreSQL, and it is the same in
//! filters, ranges, indexes and unique fields. The operators of Rust differ: to them no comparison with NaN is true.
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
//! # How do I compare, or group by, texts?
//! By their contents, which a snapshot (or the transaction) lends: [`Text`](crate::Text) and [`Blob`](crate::Blob) say where contents lie,
//! and equal ones lie at different places, so they have neither `==` nor `Hash`. [`as_str`](crate::Text::as_str) gives a `&str` that can
//! be the key of a map; [`content_eq`](crate::Text::content_eq) compares two and reads them only if length and hash are equal;
//! [`content_cmp`](crate::Text::content_cmp) orders them.
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
//! let [Some(first), Some(third)] = [planes.get(&0)?, planes.get(&2)?] else { return Err("they were put".into()) };
//! assert!(first.model.content_eq(&third.model, &snapshot)?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How do I keep arrays of structs in a struct?
//! As they are: a record may have arrays of arrays of records in it, up to 1 GiB. Large ones are not made on the stack:
//! [`TableMut::alloc`](crate::TableMut::alloc) gives one out that is all zeros and lies in the file already, to be filled there, as `new` of
//! structchunk does.
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
//! region.finish()?;
//! drop(regions);
//! tx.commit()?;
//! let snapshot = store.begin_read()?;
//! let region = snapshot.table::<Region>()?.get(&7)?.ok_or("it is there")?;
//! assert_eq!((region.cells[3][200].water, region.cells[0][0].height), (0.5, 0.0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How do I keep large blobs, or values that serde makes?
//! As a [`Blob`](crate::Blob): up to 4 GiB, 16 bytes in the row, read as `&[u8]` from the map without a copy. Put what is looked for or
//! compared in fields of its own beside it.
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
//! let image = snapshot.table::<Image>()?.get(&1)?.ok_or("it is there")?;
//! let bytes: &[u8] = image.png.as_bytes(&snapshot)?;
//! assert_eq!(bytes.len(), 1 << 20);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How does one row refer to another?
//! By its key, in a field: following it costs a cache miss or two. A [`RowId`](crate::RowId) names one version of a row, for ever: an
//! update is another row with another number. It converts to the place in the files and back, a chunk and an offset, as structchunk has
//! them; that suits tables whose rows never change.
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
//! let (row, person) = people.get_row(&2)?.ok_or("2 is there")?;
//! let boss = person.boss.get().ok_or("2 has one")?;
//! assert!(people.get(boss)?.is_some_and(|boss| boss.boss.is_none()));
//! let place = people.locate(row).ok_or("it was written")?;
//! assert_eq!((place.offset, people.row_at(place)), (size_of::<Person>() as u64, Some(row)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How do I change a struct?
//! Opening a table as a struct of another layout is an error that shows both side by side; rows are never read as something else. Give
//! the new struct a table of its own and copy the rows over, in one transaction. Renaming the struct, and adding or taking away a plain
//! index, needs none of that.
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
//!         old.map(|old| Trade { id: old.id, cents: (old.price * 100.0).round() as i64, venue: FixedStr::EMPTY })
//!     }))?;
//! }
//! tx.commit()?;
//! assert_eq!(store.begin_read()?.table::<Trade>()?.get(&3)?.map(|trade| trade.cents), Some(125));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How large must the map be?
//! You do not say. A table is a run of chunk files that are mapped one behind the other as it grows; readers map what is new when
//! they meet it, and no reader has to be closed for that. A full disk is an error of the commit, before anything was changed.
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
//! assert_eq!(store.begin_read()?.table::<Trade>()?.slices().map(|rows| rows.map_or(0, <[_]>::len)).sum::<usize>(), 100_000);
//! # drop(reader);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Can several processes use a store?
//! Yes, up to 64: each opens it by its path, reads while another one writes, and waits its turn to write. One that is killed leaves nothing
//! that has to be cleared away. One process at a time has the blocks of the ordered indexes open; the others answer ranges from the
//! rows, which is slower and gives the same. Open it once in a process and clone the handle: a second open gives the same store.
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
//! # How do threads share a snapshot?
//! By reference: a [`Snapshot`](crate::Snapshot), its tables and rows can be used by any number of threads at once, and sent to
//! them. There is no reader slot that belongs to a thread, and no flag to set. `par_slices` and `filter(…).par()` cut a table
//! up for rayon.
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
//! # What does a reader cost that stays?
//! It waits for no writer and no writer waits for it, and what it sees does not change. The row versions that it sees stay on the disk as long as it
//! lives. Keep a snapshot for a request or a report and begin the next one anew: that takes a fraction of a microsecond.
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
//! # How do I make a backup?
//! Close the store in every process and copy its folder; `ordered` and `hash` may be left out, they are made anew. While the store is in
//! use its files change one after the other, and a copy of them is no store: copy the rows of a snapshot into another store instead.
//! Texts and blobs are staged there again.
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
//! # What takes the space, and how do I get it back?
//! [`Store::stats`](crate::Store::stats) says it by table and by part; printed, it is a small table. Rows that were replaced or deleted
//! (`dead`) keep their space in this version: copy what lives into a new store, as for a backup, when there are too many of them.
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
//! assert_eq!((trades.live, trades.dead, trades.row_bytes), (1000, 2000, 16));
//! assert!(stats.bytes.rows >= 3000 * 16 && stats.bytes.rows < stats.bytes.total());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How do I know that a store is sound?
//! What is read is checked before it is given out, always. [`Store::verify`](crate::Store::verify) reads everything else too: checksums,
//! texts, marks, and the indexes against the rows, both ways. Damaged indexes are made anew with
//! [`Store::rebuild_indexes`](crate::Store::rebuild_indexes); damaged rows need the backup.
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
//! if !report.is_sound() {
//!     eprintln!("{report}");
//!     store.rebuild_indexes()?;
//! }
//! # assert!(report.is_sound());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
