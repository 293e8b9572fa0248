//! The macros of PongoDB: `#[pongo::record]` and `#[derive(PongoRecord)]`.
//!
//! In reading order:
//!
//! | module | purpose |
//! | --- | --- |
//! | `attribute` | `#[pongo::record]`: adds derives and `repr` |
//! | `record` | parses and checks a struct |
//! | `expand` | generates the code for a struct |
//! | `external` | generates the row type of a struct with an external key |
//! | `field_code` | what each field contributes to the code of its struct |
//! | `enumeration` | checks an enum and generates its code |
//! | `attr` | parses `#[pongo(...)]` and `#[repr(...)]`, and collects errors |
//! | `generic` | prevents more errors at the uses of a generic struct, which is rejected |
//! | `refuse` | rejects field types by name, with a suggestion |
//! | `context` | the paths in generated code, and code shared by structs and enums |
//!
//! The derives of `zerocopy` establish which bytes are valid values of a type. The macros generate
//! one kind of `unsafe` block, as these derives do: the claim that a list describes different fields
//! of a struct, or that an enum has no fields, from which `Unpadded` concludes that the type has no
//! padding (`docs/UNSAFE.md`). It also compiles in crates that forbid unsafe code. Generated code
//! names everything through `::pongo::__private`, so it needs no prelude and no import.
//!
//! Programs use the crate `pongo`, which re-exports both macros. The crate has no features.

#![forbid(unsafe_code)]

mod attr;
mod attribute;
mod context;
mod enumeration;
mod expand;
mod external;
mod field_code;
mod generic;
mod record;
mod refuse;

use proc_macro::TokenStream;
use syn::{Data, DeriveInput};

/// Declares a struct as a table's record, or a struct or an enum as a field type of records.
///
/// Adds `#[repr(C)]` (for an enum `#[repr(u8)]`) unless a `repr` is present, and derives
///
/// - `PongoRecord` (see the derive of that name for the attributes `#[pongo(...)]`),
/// - `TryFromBytes`, `Immutable` and `KnownLayout` of zerocopy, for an enum also `IntoBytes`,
///
/// and nothing else. Derive what the program needs of the type itself, above or below the attribute:
/// usually `#[derive(Clone, Copy, PartialEq, Debug)]`. A type that is part of a key or an index
/// (an enum, or a struct of one field) must be `Copy` and `Eq`. No derive is needed to store, read
/// and update records.
///
/// The fields can be integers of fixed size and their `NonZero` types, floats, `bool`, `char`, the
/// types of PongoDB (`FixedStr`, `Text`, `Blob`, `Uuid`, `Timestamp`), structs and enums with this
/// attribute, arrays of these, and a `Maybe` of any of them.
///
/// The fields may be in any order: the struct may have *padding*, the bytes between fields and after
/// the last one that the compiler adds for alignment. Padding takes space in each row; in the files
/// it is zero. Rows without padding are copied as they are, and only these can be filled in place
/// (`TableMut::alloc`): order the fields by alignment, the largest first, and fill the rest with a
/// field such as `_pad: [u8; 3]`. Fields that begin with `_` have no column.
///
/// It must be placed above every `#[pongo(...)]` of the type, and above derives of zerocopy: these
/// depend on the `repr` that it adds, and it does not add those that it finds below. Every rejected
/// field is a compile error at that field, with a suggestion.
///
/// ```
/// use pongo::prelude::*;
///
/// #[pongo::record]
/// #[pongo(table = "flights")]
/// #[derive(Debug)]
/// struct Flight {
///     #[pongo(key)]
///     id: u64,
///     #[pongo(index)]
///     carrier: FixedStr<2>,
///     cabin: Cabin,
///     dep_delay: f32,
///     tail: Text,
/// }
///
/// #[pongo::record]
/// #[derive(Clone, Copy, PartialEq, Eq, Debug)]
/// enum Cabin {
///     Economy,
///     First,
/// }
///
/// assert_eq!(Flight::SCHEMA.table, "flights");
/// assert_eq!(Flight::SCHEMA.size, 32);
/// assert_eq!(Flight::CARRIER.offset(), 8);
/// ```
#[proc_macro_attribute]
pub fn record(arguments: TokenStream, item: TokenStream) -> TokenStream {
    attribute::expand(&arguments.into(), item.into()).into()
}

/// Implements `FieldType`, and for a struct with a key `PongoRecord` and its columns.
///
/// The type must be a struct with named fields and `#[repr(C)]`, or an enum without fields and with
/// `#[repr(u8)]` (or another integer), and must implement zerocopy's `TryFromBytes`, `Immutable` and
/// `KnownLayout`. `#[pongo::record]` adds all of these. A struct may have padding, as described
/// there.
///
/// | attribute | on | meaning |
/// | --- | --- | --- |
/// | `#[pongo(key)]` | a field | part of the key; several form a tuple in field order |
/// | `#[pongo(index)]` | a field | a secondary index in the order of the field: `table.by(…)` |
/// | `#[pongo(unique)]` | a field | as `index`; rejects a second live row with the value |
/// | `#[pongo(column = "NAME")]` | a field | the name of its column; default: the field's in capitals |
/// | `#[pongo(index(a, b))]`, `unique(a, b)` | the struct | the same for several fields, in order |
/// | `#[pongo(key = "external")]` | the struct | the key is no field: 0 to 65,535 arbitrary bytes |
/// | `#[pongo(table = "name")]` | the struct | the table's name; default: the type in snake case |
/// | `#[pongo(crate = "path")]` | the type | the path of the crate `pongo`, if it is renamed |
///
/// A unique field has a type that can be a key, or is a float, for which `-0.0` equals `0.0` and
/// NaN equals NaN, or is a `Maybe` of these. Any number of rows may lack the value of a `Maybe`, as
/// with `NULL` in SQL. With `unique(a, b)`, a row that lacks one of the values is in conflict with
/// no other row.
///
/// Unique indexes are written into the table's schema when the table is created. They are enforced
/// for every writer, whatever its type declares. A type that declares `unique` for a table that was
/// created without it can read the table but not write to it.
///
/// A struct with an external key implements `ExternalRecord` instead of `PongoRecord`. Its table is
/// `snapshot.external::<T>()` and `tx.external::<T>()`, and its alignment is at most 32.
///
/// A struct without a key can only be a field of others. One with one field that can be a key, such
/// as `struct Id(u64)`, can be a key and be indexed itself if it is `Copy` and `Eq`
/// (`#[derive(Clone, Copy, PartialEq, Eq)]`). It is ordered as its field and has the same prefixes. A tuple
/// struct has exactly one field and is stored as this field: the schema has the kind of the field.
///
/// For each field `carrier` of a struct with a key, the derive defines the constant
/// `CARRIER: Column<Self, _>` with the visibility of the field, except for fields that begin with `_`.
/// `#[pongo(column = "NAME")]` above a field names the constant otherwise, for example if the
/// struct has a constant of that name itself (then the compiler reports `duplicate definitions with
/// name` at the field), or two fields differ only in case.
///
/// ```
/// use core::num::NonZeroU32;
/// use pongo::prelude::*;
///
/// #[pongo::record]
/// #[derive(Clone, Copy, PartialEq, Eq)]
/// struct Seat(NonZeroU32);
///
/// #[pongo::record]
/// struct Booking {
///     #[pongo(key)]
///     seat: Seat,
///     row: char,
///     #[pongo(column = "LARGEST")]
///     max: u64,
/// }
///
/// impl Booking {
///     const MAX: u64 = 8;
/// }
///
/// let booking = Booking { seat: Seat(NonZeroU32::MIN), row: 'K', max: Booking::MAX };
/// assert_eq!(booking.key_bytes(), [1, 0, 0, 0]);
/// assert_eq!((Booking::ROW.of(&booking), Booking::LARGEST.of(&booking)), (&'K', &8));
/// ```
///
/// ```
/// use pongo::prelude::*;
/// use pongo::zerocopy::{Immutable, KnownLayout, TryFromBytes};
///
/// #[derive(PongoRecord, TryFromBytes, Immutable, KnownLayout)]
/// #[zerocopy(crate = "pongo::zerocopy")]
/// #[repr(C)]
/// struct Weather {
///     #[pongo(key)]
///     airport: FixedStr<4>,
///     #[pongo(key)]
///     hour: u32,
///     wind: f64,
/// }
///
/// let row = Weather { airport: "KJFK".try_into()?, hour: 7, wind: 12.5 };
/// assert_eq!(row.key(), ("KJFK".try_into()?, 7));
/// assert_eq!(row.key_bytes(), *b"KJFK\x07\0\0\0");
/// # Ok::<(), pongo::FixedStrError>(())
/// ```
#[proc_macro_derive(PongoRecord, attributes(pongo))]
pub fn derive_pongo_record(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as DeriveInput);
    let expanded = match &input.data {
        Data::Struct(data) => record::Record::read(&input, data, true).map(|record| expand::expand(&record)),
        Data::Enum(data) => enumeration::expand(&input, data),
        Data::Union(data) => Err(attribute::union_refusal(data.union_token.span)),
    };
    expanded.unwrap_or_else(syn::Error::into_compile_error).into()
}
