//! The code for a struct: safe `impl`s, and compile-time checks, each at the field to which it
//! applies.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::Type;
use syn::spanned::Spanned;

use crate::context::{Paths, at, optional};
use crate::external;
use crate::field_code::{description, item_of, unpadded, write_fields};
use crate::record::{Record, Table};

pub(crate) fn expand(record: &Record<'_>) -> TokenStream {
    let private = &record.paths.private;
    let ident = record.ident;
    let name = &record.name;
    let checks = checks(record);
    let field_idents = record.fields.iter().map(|field| &field.member);
    let descriptions = record.fields.iter().map(|field| {
        let (ident_of, ty) = (&field.member, &field.ty);
        let offset = quote!(#private::core::mem::offset_of!(#ident, #ident_of));
        description(&record.paths, &field.name, &quote!(#ty), ty.span(), &offset)
    });
    let kind = match &record.fields[..] {
        [field] if record.newtype => {
            let ty = &field.ty;
            let kind = item_of(&record.paths, &quote!(#ty), ty.span(), "KIND");
            quote!(const __PONGO_KIND: #private::Kind = #kind;)
        }
        _ => quote! {
            const __PONGO_FIELDS: &'static [#private::Field] = &[#(#descriptions),*];

            const __PONGO_KIND: #private::Kind = #private::Kind::Record {
                name: #name,
                fields: __PONGO_FIELDS,
                size: #private::core::mem::size_of::<#ident>(),
            };
        },
    };
    let blanks = record.fields.iter().map(|field| {
        let ty = &field.ty;
        item_of(&record.paths, &quote!(#ty), ty.span(), "ABSENT_VALUE")
    });
    let typed: Vec<_> =
        record.fields.iter().map(|field| (&field.member, field.ty.to_token_stream())).collect();
    let unpadded = unpadded(&record.paths, &quote!(__PONGO_UNPADDED), &quote!(#ident), &typed);
    let write_fields = write_fields(&record.paths, &quote!(#ident), &typed);
    let face = match &record.table {
        Some(table) => {
            let rows =
                if table.external { external::impls(record, table) } else { table_impls(record, table) };
            let columns = columns(record);
            quote! {
                #rows
                #columns

                #[automatically_derived]
                impl #private::PaddingFree for #ident
                where
                    for<'pongo> #private::Layout<'pongo, { __PONGO_UNPADDED.is_some() }>:
                        #private::NoPadding<#ident>,
                    for<'pongo> #ident: #private::DerivedFor<'pongo>,
                {
                }
            }
        }
        None => one_field(record),
    };
    let optional = optional(&record.paths, ident);
    let errors = record.errors.as_ref().map(syn::Error::to_compile_error);
    quote! {
        #errors

        #[doc(hidden)]
        #[allow(deprecated)]
        const _: () = {
            #[allow(unused_imports)]
            use #private::NotDerived as _;

            #checks

            #kind

            #unpadded

            #[automatically_derived]
            impl #private::FieldType for #ident where for<'pongo> #ident: #private::DerivedFor<'pongo> {
                const KIND: #private::Kind = __PONGO_KIND;
                const ABSENT_VALUE: Self = #ident {
                    #(#field_idents: #blanks),*
                };
                const UNPADDED: #private::core::option::Option<#private::Unpadded<Self>> = __PONGO_UNPADDED;
                #write_fields
            }

            #optional

            #face
        };
    }
}

/// Generates what a struct of one field needs to be a key: its bytes are those of the field, and its
/// prefixes too.
fn one_field(record: &Record<'_>) -> TokenStream {
    let [field] = &record.fields[..] else { return TokenStream::new() };
    let (private, ident, ty) = (&record.paths.private, record.ident, &field.ty);
    let is_key = quote! {
        for<'key> #ident: #private::KeyFor<'key>,
        for<'key> #ident: #private::DerivedFor<'key>,
        for<'key> #ty: #private::KeyFieldFor<'key>
    };
    quote! {
        #[automatically_derived]
        impl #private::OneField for #ident {
            type Field = #ty;
        }

        #[automatically_derived]
        impl #private::KeyField for #ident where #is_key {}

        #[automatically_derived]
        impl #private::Comparable for #ident where #is_key {
            type Value = Self;
            #[inline(always)]
            fn value(&self) -> #private::core::option::Option<Self> {
                #private::core::option::Option::Some(*self)
            }
        }
    }
}

/// Generates the checks of types, layout and keys.
///
/// Each check is a separate constant, so that its error is reported at its field. It is in the
/// constant's type, which the compiler evaluates before any `impl`, so that its error comes before
/// those that follow from it.
fn checks(record: &Record<'_>) -> TokenStream {
    let ident = record.ident;
    let name = &record.name;
    let mut checks = TokenStream::new();
    let mut check = |span: Span, call: &dyn Fn(Span, TokenStream) -> TokenStream| {
        let span = at(span);
        let call = call(span, record.paths.at(span));
        checks.extend(quote_spanned!(span=> const _: [(); { #call; 0 }] = [];));
    };
    check(ident.span(), &|span, private| {
        let derived = quote_spanned!(span=> #private::Probe::<#ident>::DERIVED);
        quote_spanned!(span=> #private::layout::derived(#name, #derived))
    });
    for field in &record.fields {
        let ty = &field.ty;
        let kind = item_of(&record.paths, &quote!(#ty), ty.span(), "KIND");
        check(ty.span(), &|span, _| quote_spanned!(span=> let _ = #kind));
    }
    if let Some(table) = &record.table {
        let of = |unique: bool| table.indexes.iter().filter(move |index| index.unique == unique);
        let mut keys = table.key.clone();
        let mut unique: Vec<usize> = of(true).flat_map(|index| index.fields.clone()).collect();
        unique.retain(|place| !keys.contains(place));
        let mut indexed: Vec<usize> = of(false).flat_map(|index| index.fields.clone()).collect();
        indexed.retain(|place| !keys.contains(place) && !unique.contains(place));
        for places in [&mut keys, &mut unique, &mut indexed] {
            places.sort_unstable();
            places.dedup();
        }
        for place in keys {
            let ty = &record.fields[place].ty;
            check(ty.span(), &|span, _| {
                let key_field = key_field(&record.paths, ty);
                quote_spanned!(span=> let _ = #key_field)
            });
        }
        for place in unique {
            let ty = &record.fields[place].ty;
            check(ty.span(), &|span, private| quote_spanned!(span=> #private::unique_field::<#ty>()));
        }
        for place in indexed {
            let ty = &record.fields[place].ty;
            check(ty.span(), &|span, private| quote_spanned!(span=> #private::index_field::<#ty>()));
        }
    }
    for field in &record.fields {
        let (field_ident, field_name, ty) = (&field.member, &field.name, &field.ty);
        check(field_ident.span(), &|span, private| {
            quote_spanned!(span=>
                #private::layout::not_empty(#name, #field_name, #private::core::mem::size_of::<#ty>()))
        });
        let kind = item_of(&record.paths, &quote!(#ty), ty.span(), "KIND");
        check(field_ident.span(), &|span, private| {
            quote_spanned!(span=> #private::layout::as_its_kind(
                #name,
                #field_name,
                &#kind,
                #private::core::mem::size_of::<#ty>(),
                #private::core::mem::align_of::<#ty>(),
            ))
        });
    }
    check(ident.span(), &|span, private| {
        quote_spanned!(span=> #private::layout::within_limits(
            #name,
            #private::core::mem::size_of::<#ident>(),
            #private::core::mem::align_of::<#ident>(),
            &__PONGO_KIND,
        ))
    });
    if record.table.as_ref().is_some_and(|table| table.external) {
        check(ident.span(), &|span, private| {
            quote_spanned!(span=> #private::layout::external_limits(
                #name,
                #private::core::mem::size_of::<#ident>(),
                #private::core::mem::align_of::<#ident>(),
            ))
        });
    }
    checks
}

/// Generates the function that copies a field of a key. As in [`item_of`], all uses are identical, so
/// that a type that cannot be a key is one error.
fn key_field(paths: &Paths, ty: &Type) -> TokenStream {
    let span = at(ty.span());
    let private = paths.at(span);
    quote_spanned!(span=> #private::key_field::<#ty>)
}

fn table_impls(record: &Record<'_>, table: &Table) -> TokenStream {
    let private = &record.paths.private;
    let ident = record.ident;
    let name = &record.name;
    let table_name = &table.name;
    let key = &table.key;
    let key_idents: Vec<_> = key.iter().map(|place| &record.fields[*place].member).collect();
    let key_types: Vec<_> = key.iter().map(|place| &record.fields[*place].ty).collect();
    let indexes = table.indexes.iter().map(|index| {
        let (name, fields, unique) = (&index.name, &index.fields, index.unique);
        quote!(#private::IndexDef { name: #name, fields: &[#(#fields),*], unique: #unique })
    });

    let bytes = Ident::new("__pongo_bytes", Span::mixed_site());
    let key_name = Ident::new("__pongo_key", Span::mixed_site());
    let put_keys: Vec<_> =
        key_types.iter().map(|ty| item_of(&record.paths, &quote!(#ty), ty.span(), "put_at")).collect();
    let sizes: Vec<_> = key_types.iter().map(|ty| quote!(#private::core::mem::size_of::<#ty>())).collect();
    let ats = (0..sizes.len()).map(|place| {
        let before = &sizes[..place];
        quote!(0 #(+ #before)*)
    });
    let ats: Vec<_> = ats.collect();
    let key_fields = key_types.iter().map(|ty| key_field(&record.paths, ty));
    let key_values = quote!(#(#key_fields(&self.#key_idents)),*);
    let (key_type, key_value, key_parts) = match &key_types[..] {
        [ty] => (quote!(#ty), key_values, vec![quote!(#key_name)]),
        _ => {
            let parts = (0..key_idents.len()).map(syn::Index::from).map(|place| quote!(&#key_name.#place));
            (quote!((#(#key_types),*)), quote!((#key_values)), parts.collect())
        }
    };
    quote! {
        const _: () = #private::core::assert!(#private::is_table_name(#table_name));

        // Outside of the `impl`, whose functions may be impossible to call.
        const __PONGO_KEY: [#private::core::primitive::u8; 0 #(+ #sizes)*] = [0; 0 #(+ #sizes)*];

        #[automatically_derived]
        impl #private::PongoRecord for #ident where for<'pongo> #ident: #private::DerivedFor<'pongo> {
            type Key = #key_type;
            type KeyBytes = [#private::core::primitive::u8; 0 #(+ #sizes)*];
            const SCHEMA: &'static #private::Schema = &#private::Schema {
                table: #table_name,
                record: #name,
                size: #private::core::mem::size_of::<#ident>(),
                align: #private::core::mem::align_of::<#ident>(),
                fields: __PONGO_FIELDS,
                key: &[#(#key),*],
                indexes: &[#(#indexes),*],
            };
            #[inline]
            fn key(&self) -> Self::Key {
                #key_value
            }
            #[inline]
            fn key_bytes(&self) -> Self::KeyBytes {
                let mut #bytes = __PONGO_KEY;
                #(#put_keys(&self.#key_idents, &mut #bytes, #ats);)*
                #bytes
            }
            #[inline]
            fn encode_key(#key_name: &Self::Key) -> Self::KeyBytes {
                let mut #bytes = __PONGO_KEY;
                #(#put_keys(#key_parts, &mut #bytes, #ats);)*
                #bytes
            }
        }
    }
}

/// Generates the column constants, with the visibility of their fields.
fn columns(record: &Record<'_>) -> TokenStream {
    let ident = record.ident;
    let row = Ident::new("__pongo_row", Span::mixed_site());
    let columns = record.fields.iter().filter_map(|field| {
        let constant = field.column.as_ref()?;
        let (ident_of, name, ty, vis) = (&field.member, &field.name, &field.ty, field.vis);
        let deprecated = field.deprecated;
        let doc = format!("The column `{name}`.");
        // The field's position, for an error if the type has a constant of this name itself.
        let span = at(ident_of.span());
        let private = record.paths.at(span);
        Some(quote_spanned! {span=>
            #[doc = #doc]
            #deprecated
            #[allow(dead_code, non_upper_case_globals, unreachable_pub)]
            #vis const #constant: #private::Column<#ident, #ty> = #private::Column::new(
                #name,
                #private::core::mem::offset_of!(#ident, #ident_of),
                |#row: &#ident| &#row.#ident_of,
            );
        })
    });
    quote! {
        #[automatically_derived]
        impl #ident {
            #(#columns)*
        }
    }
}
