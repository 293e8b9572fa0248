//! The macros of PongoDB: `#[pongo::record]` and `#[derive(PongoRecord)]`.
//!
//! In reading order:
//!
//! | module | what it owns |
//! | --- | --- |
//! | `attribute` | `#[pongo::record]`: adds derives and `repr` |
//! | `record` | a struct, read and checked |
//! | `expand` | the code for a struct |
//! | `external` | the rows of one whose key is no field of it |
//! | `enumeration` | an enum, checked and written |
//! | `attr` | `#[pongo(...)]` and `#[repr(...)]`, and collecting errors |
//! | `refuse` | field types refused by name, with the mend |
//! | `context` | the paths in generated code, and what structs and enums share |
//!
//! Neither macro writes `unsafe`: what a type's bytes may be is left to `zerocopy`'s derives. Generated code names
//! everything through `::pongo::__private`, so that it needs no prelude and no import.

#![forbid(unsafe_code)]

mod attr;
mod attribute;
mod context;
mod enumeration;
mod expand;
mod external;
mod record;
mod refuse;

use proc_macro::TokenStream;
use syn::{Data, DeriveInput};

/// Makes a struct a table's record, or a struct or an enum a field of records.
///
/// Adds `#[repr(C)]` (to an enum `#[repr(u8)]`) unless a `repr` stands there, and derives
///
/// - `PongoRecord` (see the derive of that name for the attributes `#[pongo(...)]`),
/// - `TryFromBytes`, `IntoBytes`, `Immutable` and `KnownLayout` of zerocopy,
/// - `Clone` and `Copy`, unless a `#[derive(...)]` below it names one of the two,
/// - for an enum `PartialEq` and `Eq`, unless one of the two is named, so that it can be a key.
///
/// It stands above every `#[derive(...)]` and `#[pongo(...)]` of the type. Every refusal is a compile error at the field,
/// with the mend.
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
///     _pad: [u8; 1],
///     dep_delay: f32,
///     tail: Text,
/// }
///
/// #[pongo::record]
/// #[derive(Debug)]
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
/// The type is a struct with named fields and `#[repr(C)]`, or an enum without fields and with `#[repr(u8)]` (or another
/// integer), and implements zerocopy's `TryFromBytes`, `IntoBytes`, `Immutable` and `KnownLayout`. `#[pongo::record]` adds
/// all that.
///
/// | attribute | on | meaning |
/// | --- | --- | --- |
/// | `#[pongo(key)]` | a field | part of the key; several make a tuple in the fields' order |
/// | `#[pongo(index)]` | a field | a secondary index: rows in the order of the field, by `table.by(…)` |
/// | `#[pongo(unique)]` | a field | as `index`, and no two live rows may have the same value: a second one is refused |
/// | `#[pongo(index(a, b))]`, `unique(a, b)` | the struct | the same for several fields, in this order |
/// | `#[pongo(key = "external")]` | the struct | no field is the key: rows are put under keys of any bytes, 0 to 65,535 of them |
/// | `#[pongo(table = "name")]` | the struct | the table's name; else the type's in snake case |
/// | `#[pongo(crate = "path")]` | the type | where the crate `pongo` is, if it has another name |
///
/// A unique field is one that could be a key, or a float, of which `-0.0` equals `0.0` and NaN equals NaN.
///
/// What is unique is written into the table's schema when the table is made, and holds for whoever writes to it, whatever the
/// type says. A type that says `unique` of a table that was made without it can read it and not write to it.
///
/// A struct with an external key implements `ExternalRecord` in place of `PongoRecord`: its table is
/// `snapshot.external::<T>()` and `tx.external::<T>()`, and its alignment is at most 32.
///
/// A struct without a key can only be a field of others. Each field `carrier` of a struct with one gets the constant
/// `CARRIER: Column<Self, _>`, as visible as the field; fields that begin with `_` do not.
///
/// ```
/// use pongo::prelude::*;
/// use pongo::zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};
///
/// #[derive(PongoRecord, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
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
