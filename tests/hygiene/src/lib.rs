//! The macros in a crate where no name has its usual meaning. The test is that it compiles.
//!
//! The crate is renamed, there is no prelude, and types, modules, constants and macros with names
//! that generated code might use mean something else. Only the types `u8` and `usize` and a
//! constant `bytes` keep their meaning, because zerocopy's derives need them.

#![no_implicit_prelude]
#![forbid(unsafe_code)]
#![deny(warnings)]

/// Names that generated code could conflict with.
#[allow(
    non_camel_case_types,
    non_upper_case_globals,
    dead_code,
    unused_macros,
    missing_docs,
    unreachable_pub
)]
mod shadowed {
    pub mod core {}
    pub mod std {}
    pub mod alloc {}
    pub mod pongo {}
    pub mod zerocopy {}
    pub mod __private {}
    pub struct Option;
    pub struct Result;
    pub struct Some;
    pub struct None;
    pub struct Ok;
    pub struct Err;
    pub struct Self_;
    pub struct Kind;
    pub struct Field;
    pub struct Schema;
    pub struct Column;
    pub trait FieldType {}
    pub trait PongoRecord {}
    pub trait KeyField {}
    pub trait Clone {}
    pub trait Copy {}
    pub trait Send {}
    pub trait Sync {}
    pub trait Sized {}
    pub struct u16;
    pub struct u32;
    pub struct i128;
    pub struct bool;
    pub struct str;
    pub const key: () = ();
    pub const row: () = ();
    pub const value: () = ();
    pub const field: () = ();
    pub fn size_of() {}
    pub fn align_of() {}

    macro_rules! assert {
        () => {};
    }
    macro_rules! panic {
        () => {};
    }
    macro_rules! offset_of {
        () => {};
    }

    /// A record with one key field.
    #[::renamed::record]
    #[pongo(table = "single", crate = "renamed")]
    struct Single {
        #[pongo(key)]
        key: ::core::primitive::u64,
        #[pongo(index)]
        value: ::renamed::FixedStr<8>,
        r#type: ::renamed::Maybe<Nested>,
        tail: ::renamed::Text,
    }

    /// A record with several key fields, whose names the generated functions use themselves.
    #[::renamed::record]
    #[pongo(crate = "::renamed", unique(value, bytes))]
    struct Several {
        #[pongo(key)]
        bytes: ::core::primitive::u64,
        #[pongo(key)]
        key: Choice,
        #[pongo(key)]
        row: [::core::primitive::u8; 7],
        value: ::renamed::Timestamp,
    }

    /// A record with an external key, and fields with the names of those that are generated.
    #[::renamed::record]
    #[pongo(table = "external", key = "external", crate = "renamed")]
    pub struct External {
        #[pongo(index)]
        key: ::core::primitive::u64,
        value: Nested,
        digest: [::core::primitive::u8; 8],
    }

    /// A record that is a field of other records.
    #[::renamed::record]
    #[pongo(crate = "renamed")]
    pub struct Nested {
        tag: ::core::primitive::f64,
        value: ::core::primitive::f64,
    }

    /// A tuple struct that is a key.
    #[::renamed::record]
    #[pongo(crate = "renamed")]
    #[derive(::core::clone::Clone, ::core::marker::Copy, ::core::cmp::PartialEq, ::core::cmp::Eq)]
    pub struct Newtype(::core::primitive::u64);

    /// A record whose key is a tuple struct.
    #[::renamed::record]
    #[pongo(crate = "renamed")]
    pub struct OfNewtype {
        #[pongo(key)]
        key: Newtype,
        #[pongo(index, column = "OTHER")]
        value: ::renamed::Maybe<Newtype>,
    }

    /// An enum that uses the derive alone.
    #[derive(
        ::core::clone::Clone,
        ::core::marker::Copy,
        ::core::cmp::PartialEq,
        ::core::cmp::Eq,
        ::renamed::PongoRecord,
        ::renamed::zerocopy::TryFromBytes,
        ::renamed::zerocopy::IntoBytes,
        ::renamed::zerocopy::Immutable,
        ::renamed::zerocopy::KnownLayout,
    )]
    #[zerocopy(crate = "renamed::zerocopy")]
    #[pongo(crate = "renamed")]
    #[repr(u8)]
    enum Choice {
        Some,
        None = 3,
        Ok,
    }

    pub fn tables() -> [&'static ::core::primitive::str; 2] {
        use ::renamed::PongoRecord;
        let _ = (External::KEY, External::DIGEST, <External as ::renamed::ExternalRecord>::value_of);
        let _ = (Single::VALUE, Several::KEY, Single::TYPE, OfNewtype::KEY, OfNewtype::OTHER);
        [Single::SCHEMA.table, Several::SCHEMA.table]
    }
}

/// Defines a record in a macro.
macro_rules! written {
    ($name:ident { $($field:ident: $ty:ty),* }) => {
        /// A record that a macro defines.
        #[::renamed::record]
        #[pongo(crate = "renamed")]
        pub struct $name {
            #[pongo(key)]
            id: ::core::primitive::u64,
            $(
                /// A field of the record.
                pub $field: $ty,
            )*
        }
    };
}

written!(Written { price: f64, count: i64 });

/// Records whose parts have attributes of the language. Only uses outside of the generated code are
/// reported.
pub mod attributed {
    /// A record with deprecated, documented and conditional parts.
    #[::renamed::record]
    #[pongo(crate = "renamed", table = "attributed", index(older, kind))]
    #[deprecated(since = "1.0.0", note = "use `Written`")]
    #[allow(deprecated, non_snake_case, reason = "for the types and names of its fields")]
    #[derive(Debug)]
    pub struct Old {
        /// The key.
        #[pongo(key)]
        #[deprecated]
        pub id: u64,
        /// An older field.
        #[deprecated(note = "use `kind`")]
        #[pongo(unique)]
        pub older: Kind,
        /// Its kind.
        #[cfg_attr(all(), deprecated)]
        pub kind: Kind,
        #[cfg(any())]
        pub never: ::std::string::String,
        #[cfg(target_pointer_width = "64")]
        #[doc(hidden)]
        pub Mixed: ::renamed::Maybe<Part>,
    }

    /// A deprecated field type.
    #[::renamed::record]
    #[pongo(crate = "renamed")]
    #[deprecated]
    #[derive(Debug)]
    pub struct Part {
        /// A deprecated part of it.
        #[deprecated = "use `b`"]
        pub a: u32,
        /// The other part.
        pub b: u32,
    }

    /// A deprecated record with an external key.
    #[::renamed::record]
    #[pongo(crate = "renamed", key = "external")]
    #[deprecated]
    pub struct Outside {
        /// A deprecated field.
        #[deprecated]
        #[pongo(index)]
        pub a: u32,
        /// The other field.
        pub b: u32,
    }

    /// A deprecated enum with deprecated and conditional variants.
    #[::renamed::record]
    #[pongo(crate = "renamed")]
    #[deprecated]
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub enum Kind {
        /// The first variant.
        #[deprecated]
        First,
        /// The second variant.
        #[doc(alias = "2nd")]
        Second,
        /// A variant that does not exist.
        #[cfg(any())]
        Third,
        /// A variant whose name has another style.
        #[allow(non_camel_case_types)]
        fourth = 7,
    }
}

/// Uses the generated code.
#[must_use]
pub fn tables() -> [&'static str; 3] {
    let [one, two] = shadowed::tables();
    [one, two, <Written as ::renamed::PongoRecord>::SCHEMA.table]
}

#[cfg(test)]
mod tests {
    #[test]
    fn tables_are_named_after_their_types() {
        ::std::assert_eq!(crate::tables(), ["single", "several", "written"]);
    }

    /// A program in a separate crate that uses only the exports of the renamed crate.
    #[test]
    fn records_of_another_crate_are_stored()
    -> ::std::result::Result<(), ::std::boxed::Box<dyn ::std::error::Error>> {
        use crate::Written;
        use ::std::iter::{IntoIterator, Iterator};
        use ::std::option::Option::Some;

        let store = ::renamed::Store::in_memory()?;
        let tx = store.begin_write()?;
        tx.table::<Written>()?.extend((0..100).map(|id| Written { id, price: 0.5, count: 2 }))?;
        tx.table::<Written>()?.update(7, |row| row.count = 3)?;
        tx.commit()?;
        let snapshot = store.begin_read()?;
        let rows = snapshot.table::<Written>()?;
        ::std::assert_eq!(rows.get(7)?.map(|row| row.count), Some(3));
        let mut sum = 0;
        for run in rows.slices() {
            sum += IntoIterator::into_iter(run?).map(|row| row.count).sum::<i64>();
        }
        ::std::assert_eq!((rows.len(), sum), (100, 201));
        ::std::result::Result::Ok(())
    }
}
