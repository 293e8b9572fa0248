//! What a generic struct is given besides its error: implementations without a meaning, so that its
//! uses cause no more errors. The program does not compile, so none of this code runs.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Fields, GenericParam};

use crate::attr::{Errors, FieldAttrs, Repr, TypeAttrs};
use crate::context::Paths;
use crate::refuse::refusal;

/// Derives to place above the struct, and implementations to place after it. `None` if these would
/// cause errors of their own: then the struct is more than generic.
pub(crate) fn stub(input: &DeriveInput) -> Option<(TokenStream, TokenStream)> {
    let Data::Struct(data) = &input.data else { return None };
    let Fields::Named(fields) = &data.fields else { return None };
    let lifetimes = input.generics.params.iter().any(|of| matches!(of, GenericParam::Lifetime(_)));
    let repr = Repr::read(&input.attrs);
    let other_mistake = fields.named.iter().any(|field| refusal(&field.ty).is_some())
        || [repr.packed, repr.transparent, repr.align].iter().any(Option::is_some);
    if input.generics.params.is_empty() || lifetimes || other_mistake {
        return None;
    }
    let attrs = TypeAttrs::read(&input.attrs, &mut Errors::default());
    let read = |attrs| FieldAttrs::read(attrs, &mut Errors::default());
    let keys = fields.named.iter().filter(|field| read(&field.attrs).key.is_some());
    let keys: Vec<_> = keys.map(|field| &field.ty).collect();
    if keys.is_empty() || attrs.external.is_some() {
        return None;
    }
    let key = match &keys[..] {
        [one] => quote!(#one),
        _ => quote!((#(#keys),*)),
    };
    let paths = Paths::new(attrs.krate.as_ref());
    let (private, zerocopy) = (&paths.private, &paths.zerocopy);
    let derives = paths.zerocopy_derives().map(|(_, path)| path);
    let repr = (!repr.c).then(|| quote!(#[repr(C)]));
    let ident = &input.ident;
    let (impls, arguments, clause) = input.generics.split_for_impl();
    let bounds = clause.map(|clause| &clause.predicates);
    let row = quote!(#ident #arguments);
    let columns = fields.named.iter().filter_map(|field| {
        let (member, ty, vis) = (field.ident.as_ref()?, &field.ty, &field.vis);
        let column = syn::parse_str::<syn::Ident>(&member.to_string().to_uppercase()).ok()?;
        let column = read(&field.attrs).column.unwrap_or(column);
        Some(quote! {
            #[allow(dead_code, non_upper_case_globals, unreachable_pub)]
            #vis const #column: #private::Column<#row, #ty> =
                #private::Column::new("", 0, |row| &row.#member);
        })
    });
    let above = quote!(#[derive(#(#derives),*)] #[zerocopy(crate = #zerocopy)] #repr);
    let below = quote! {
        #[doc(hidden)]
        #[allow(deprecated, private_interfaces)]
        const _: () = {
            impl #impls #private::FieldType for #row
            where
                #row: #private::zerocopy::TryFromBytes
                    + #private::zerocopy::Immutable
                    + #private::zerocopy::KnownLayout
                    + #private::core::marker::Send
                    + #private::core::marker::Sync
                    + 'static,
                #bounds
            {
                const KIND: #private::Kind = #private::Kind::U8;
                const ABSENT_VALUE: Self = #private::core::panic!();
                const UNPADDED: #private::core::option::Option<#private::Unpadded<Self>> =
                    #private::core::option::Option::None;
            }

            impl #impls #private::PongoRecord for #row
            where
                #row: #private::FieldType,
                #bounds
            {
                type Key = #key;
                type KeyBytes = [#private::core::primitive::u8; 0];
                const SCHEMA: &'static #private::Schema = #private::core::panic!();
                fn key(&self) -> Self::Key {
                    loop {}
                }
                fn key_bytes(&self) -> Self::KeyBytes {
                    loop {}
                }
                fn encode_key(_: &Self::Key) -> Self::KeyBytes {
                    loop {}
                }
            }

            impl #impls #row #clause {
                #(#columns)*
            }
        };
    };
    Some((above, below))
}
