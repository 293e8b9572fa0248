//! `#[derive(PongoRecord)]` on an enum without fields: a field type that is represented by an
//! integer.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{DataEnum, DeriveInput, Fields};

use crate::attr::{self, Errors, Repr, TypeAttrs};
use crate::context::{Paths, optional, plain};

const INTEGERS: [&str; 8] = ["u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64"];

/// Rejects unsupported enums, and returns the paths of the expansion.
pub(crate) fn check(input: &DeriveInput, data: &DataEnum, need_repr: bool) -> syn::Result<Paths> {
    let mut errors = Errors::default();
    let attrs = TypeAttrs::read(&input.attrs, &mut errors);
    if let Some(table) = &attrs.table {
        errors.at(
            table.span(),
            "an enum is a field, not a table: remove `table`, or put the enum into a struct",
        );
    }
    for index in &attrs.indexes {
        errors.at(index.span, "an enum is a field and cannot have an index: index the field that holds it");
    }
    if !input.generics.params.is_empty() {
        errors.on(
            &input.generics.params,
            "a field type has one layout, so it cannot be generic: write the types out",
        );
    }
    let repr = Repr::read(&input.attrs);
    match &repr.integer {
        Some(integer) if !INTEGERS.iter().any(|known| integer == known) => errors.at(
            integer.span(),
            format!(
                "an enum cannot be stored in a `{integer}`: write `u8`, or another integer of fixed \
                     size up to 64 bits"
            ),
        ),
        Some(_) => {}
        None if need_repr || repr.c => errors.at(
            input.ident.span(),
            format!("`{}` has no fixed integer type: write `#[repr(u8)]` above it", input.ident),
        ),
        None => {}
    }
    if let Some(align) = repr.align {
        errors.at(align, "an enum in a record has the size and alignment of its integer: remove `align`");
    }
    if data.variants.is_empty() {
        errors.at(input.ident.span(), format!("`{}` has no variants, so no value: give it one", input.ident));
    }
    for variant in &data.variants {
        attr::none(&variant.attrs, &mut errors);
        if !matches!(variant.fields, Fields::Unit) {
            errors.on(
                &variant.fields,
                format!(
                    "`{}` has fields, and an enum in a record has none: keep the data in fields of the \
                     record beside an enum that says which of them count",
                    variant.ident
                ),
            );
        }
    }
    errors.into_result(Paths::new(attrs.krate.as_ref()))
}

pub(crate) fn expand(input: &DeriveInput, data: &DataEnum) -> syn::Result<TokenStream> {
    let paths = check(input, data, true)?;
    let private = &paths.private;
    let ident = &input.ident;
    let name = plain(ident);
    let integer = Repr::read(&input.attrs).integer.map(|integer| integer.to_string());
    let integer = quote::format_ident!("{}", integer.unwrap_or_else(|| "u8".to_owned()));
    let repr = quote::format_ident!("{}", integer.to_string().to_uppercase());
    let variants: Vec<_> = data.variants.iter().map(|variant| &variant.ident).collect();
    let names: Vec<_> = variants.iter().map(|variant| plain(variant)).collect();
    let first = &variants[0];
    let optional = optional(&paths, ident);
    Ok(quote! {
        #[doc(hidden)]
        #[allow(deprecated)]
        const _: () = {
            #[automatically_derived]
            impl #private::FieldType for #ident {
                const KIND: #private::Kind = #private::Kind::Enum {
                    name: #name,
                    repr: &#private::Kind::#repr,
                    variants: &[#((#names, #ident::#variants as #private::core::primitive::i128)),*],
                };
                const ABSENT_VALUE: Self = {
                    #(if #ident::#variants as #private::core::primitive::i128 == 0 {
                        #ident::#variants
                    } else)*
                    { #ident::#first }
                };
                // SAFETY: an enum without fields, as the casts above show, represented by an
                // integer.
                const UNPADDED: #private::core::option::Option<#private::Unpadded<Self>> =
                    unsafe { #private::Unpadded::of_enum::<#private::core::primitive::#integer>() };
            }

            #[automatically_derived]
            impl #private::KeyField for #ident where for<'key> #ident: #private::KeyFor<'key> {}

            #[automatically_derived]
            impl #private::Comparable for #ident where for<'key> #ident: #private::KeyFor<'key> {
                type Value = Self;
                #[inline(always)]
                fn value(&self) -> #private::core::option::Option<Self> {
                    #private::core::option::Option::Some(*self)
                }
            }

            #optional
        };
    })
}
