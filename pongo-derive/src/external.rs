//! The code for a struct with `#[pongo(key = "external")]`: the type of its table's rows, in which
//! the key precedes the value.

use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;
use syn::Member;
use syn::spanned::Spanned;

use crate::field_code::{description, unpadded, write_fields};
use crate::record::{ROW_FIELDS, Record, Table};

/// Generates the row type. Row and value are two types, so that the value is exactly the user's
/// type. The schema lists the value's fields individually after the two fields of the key, so that
/// they can be indexed.
pub(crate) fn impls(record: &Record<'_>, table: &Table) -> TokenStream {
    let private = &record.paths.private;
    let zerocopy = &record.paths.zerocopy;
    let derives = record.paths.zerocopy_derives().map(|(_, path)| path);
    let (ident, vis, name) = (record.ident, record.vis, &record.name);
    let table_name = &table.name;
    let [digest_name, key_name] = ROW_FIELDS;
    let head = ROW_FIELDS.len();
    let digest_type = quote!([#private::core::primitive::u8; 16]);
    let descriptions = record.fields.iter().map(|field| {
        let (ident_of, name_of, ty) = (&field.member, &field.name, &field.ty);
        let offset = quote! {
            #private::core::mem::offset_of!(__PongoRow, value)
                + #private::core::mem::offset_of!(#ident, #ident_of)
        };
        description(&record.paths, name_of, &quote!(#ty), ty.span(), &offset)
    });
    let head_description = |name: &str, ty: &TokenStream, field: &Member| {
        let offset = quote!(#private::core::mem::offset_of!(__PongoRow, #field));
        description(&record.paths, name, ty, Span::call_site(), &offset)
    };
    let head_idents =
        ["digest", "key", "value"].map(|name| Member::Named(Ident::new(name, Span::call_site())));
    let digest_description = head_description(digest_name, &digest_type, &head_idents[0]);
    let key_description = head_description(key_name, &quote!(#private::ExternalKey), &head_idents[1]);
    let fields = [
        (&head_idents[0], digest_type.clone()),
        (&head_idents[1], quote!(#private::ExternalKey)),
        (&head_idents[2], quote!(#ident)),
    ];
    let unpadded = unpadded(&record.paths, &quote!(UNPADDED), &quote!(__PongoRow), &fields);
    let write_fields = write_fields(&record.paths, &quote!(__PongoRow), &fields);
    let indexes = table.indexes.iter().map(|index| {
        let (name, unique) = (&index.name, index.unique);
        let fields = index.fields.iter().map(|place| place + head);
        quote!(#private::IndexDef { name: #name, fields: &[#(#fields),*], unique: #unique })
    });
    let digest = Ident::new("__pongo_digest", Span::mixed_site());
    let external_record = external_record(record, &digest_type);
    quote! {
        const _: () = #private::core::assert!(#private::is_table_name(#table_name));

        #[derive(#(#derives),*)]
        #[zerocopy(crate = #zerocopy)]
        #[repr(C)]
        #[doc(hidden)]
        #[allow(unreachable_pub)]
        #vis struct __PongoRow {
            digest: #digest_type,
            key: #private::ExternalKey,
            value: #ident,
        }

        const __PONGO_ROW_FIELDS: &'static [#private::Field] = &[
            #digest_description,
            #key_description,
            #(#descriptions),*
        ];

        #[automatically_derived]
        impl #private::FieldType for __PongoRow {
            const KIND: #private::Kind = #private::Kind::Record {
                name: #name,
                fields: __PONGO_ROW_FIELDS,
                size: #private::core::mem::size_of::<__PongoRow>(),
            };
            const ABSENT_VALUE: Self = __PongoRow {
                digest: [0; 16],
                key: #private::ExternalKey::EMPTY,
                value: <#ident as #private::FieldType>::ABSENT_VALUE,
            };
            #unpadded
            #write_fields
        }

        #[automatically_derived]
        impl #private::PongoRecord for __PongoRow {
            type Key = #digest_type;
            type KeyBytes = #digest_type;
            const SCHEMA: &'static #private::Schema = &#private::Schema {
                table: #table_name,
                record: #name,
                size: #private::core::mem::size_of::<__PongoRow>(),
                align: #private::core::mem::align_of::<__PongoRow>(),
                fields: __PONGO_ROW_FIELDS,
                key: &[0],
                indexes: &[#(#indexes),*],
            };
            #[inline]
            fn key(&self) -> #digest_type {
                self.digest
            }
            #[inline]
            fn key_bytes(&self) -> #digest_type {
                self.digest
            }
            #[inline]
            fn encode_key(#digest: &#digest_type) -> #digest_type {
                *#digest
            }
        }

        #external_record
    }
}

/// Generates the conversions between a value and its row.
fn external_record(record: &Record<'_>, digest_type: &TokenStream) -> TokenStream {
    let (private, ident) = (&record.paths.private, record.ident);
    let [digest, key, row] =
        ["__pongo_digest", "__pongo_key", "__pongo_row"].map(|name| Ident::new(name, Span::mixed_site()));
    quote! {
        #[automatically_derived]
        impl #private::ExternalRecord for #ident {
            type Row = __PongoRow;
            #[inline]
            fn into_row(self, #digest: #digest_type, #key: #private::ExternalKey) -> __PongoRow {
                __PongoRow { digest: #digest, key: #key, value: self }
            }
            #[inline]
            fn set_key(#row: &mut __PongoRow, #digest: #digest_type, #key: #private::ExternalKey) {
                #row.digest = #digest;
                #row.key = #key;
            }
            #[inline]
            fn key_of(#row: &__PongoRow) -> #private::ExternalKey {
                #row.key
            }
            #[inline]
            fn value_of(#row: &__PongoRow) -> &Self {
                &#row.value
            }
            #[inline]
            fn value_mut(#row: &mut __PongoRow) -> &mut Self {
                &mut #row.value
            }
        }
    }
}
