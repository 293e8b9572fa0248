//! `#[pongo::record]`: adds the derives and the `repr` that a record needs.

use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;
use syn::punctuated::Punctuated;
use syn::{Attribute, Data, DeriveInput, Error, Fields, Path, Token};

use crate::attr::{Errors, Repr, TypeAttrs};
use crate::context::Paths;
use crate::enumeration;
use crate::generic;
use crate::record::Record;
use crate::refuse::kept;

pub(crate) fn expand(arguments: &TokenStream, item: TokenStream) -> TokenStream {
    let mut input: DeriveInput = match syn::parse2(item.clone()) {
        Ok(input) => input,
        Err(error) => {
            let message = "`#[pongo::record]` stands above a struct or an enum: remove it here";
            let error = if is_type(&item) { error } else { Error::new(error.span(), message) };
            let error = error.into_compile_error();
            return quote!(#error #item);
        }
    };
    let refused = (!arguments.is_empty()).then(|| {
        let message =
            "`#[pongo::record]` stands alone: write the rest below it, as in `#[pongo(table = \"flights\")]`";
        Error::new_spanned(arguments, message).into_compile_error()
    });
    match additions(&input) {
        Ok(additions) => quote!(#refused #additions #input),
        Err(error) => {
            // The type is kept, so that its users do not cause more errors. Its helper attributes
            // have no reader now.
            let (above, below) = generic::stub(&input).unwrap_or_default();
            strip(&mut input);
            let error = error.into_compile_error();
            quote!(#refused #error #above #input #below)
        }
    }
}

fn is_type(item: &TokenStream) -> bool {
    item.clone().into_iter().any(|token| ["struct", "enum"].contains(&token.to_string().as_str()))
}

fn additions(input: &DeriveInput) -> syn::Result<TokenStream> {
    // A type with conditionally compiled fields is left to the derive, which sees only those that
    // remain.
    let decided = !fields(input).any(|attrs| attrs.iter().any(is_conditional));
    let is_enum = match &input.data {
        Data::Struct(data) if decided => Record::read(input, data, false).map(|_| false)?,
        Data::Enum(data) if decided => enumeration::check(input, data, false).map(|_| true)?,
        Data::Struct(_) => false,
        Data::Enum(_) => true,
        Data::Union(data) => return Err(union_refusal(data.union_token.span)),
    };
    let krate = TypeAttrs::read(&input.attrs, &mut Errors::default()).krate;
    let paths = Paths::new(krate.as_ref());
    let private = &paths.private;
    let written = derived(&input.attrs);
    let has = |name: &str| written.iter().any(|derive| derive == name);

    // First, so that its errors for a field come before those of zerocopy.
    let mut derives: Vec<TokenStream> = Vec::new();
    if !has("PongoRecord") {
        derives.push(quote!(#private::DerivePongoRecord));
    }
    // The derives of zerocopy's `FromBytes` and `FromZeros` implement `TryFromBytes` as well.
    let tried = has("FromBytes") || has("FromZeros");
    for (name, path) in paths.zerocopy_derives() {
        if !(has(name) || name == "TryFromBytes" && tried) {
            derives.push(path);
        }
    }
    // The bytes of an enum are those of its integer. A struct may have padding.
    if is_enum && !has("IntoBytes") {
        derives.push(paths.zerocopy_derive("IntoBytes"));
    }
    let repr = Repr::read(&input.attrs);
    let repr = match (is_enum, repr.c || repr.transparent.is_some(), repr.integer.is_some()) {
        (false, false, _) => quote!(#[repr(C)]),
        (true, _, false) => quote!(#[repr(u8)]),
        _ => TokenStream::new(),
    };
    let zerocopy = &paths.zerocopy;
    Ok(quote!(#[derive(#(#derives),*)] #[zerocopy(crate = #zerocopy)] #repr))
}

pub(crate) fn union_refusal(span: Span) -> Error {
    Error::new(
        span,
        "nothing says which field of a union counts: make it a struct with an enum beside the data",
    )
}

fn fields(input: &DeriveInput) -> impl Iterator<Item = &Vec<Attribute>> {
    let (fields, variants): (Vec<_>, Vec<_>) = match &input.data {
        Data::Struct(data) => (data.fields.iter().map(|field| &field.attrs).collect(), Vec::new()),
        Data::Enum(data) => (Vec::new(), data.variants.iter().map(|variant| &variant.attrs).collect()),
        Data::Union(_) => (Vec::new(), Vec::new()),
    };
    fields.into_iter().chain(variants)
}

fn is_conditional(attr: &Attribute) -> bool {
    attr.path().is_ident("cfg") || attr.path().is_ident("cfg_attr")
}

/// Returns the last segments of all paths in the `#[derive(...)]`s below this attribute.
fn derived(attrs: &[Attribute]) -> Vec<Ident> {
    let lists = attrs.iter().filter(|attr| attr.path().is_ident("derive"));
    let paths =
        lists.filter_map(|list| list.parse_args_with(Punctuated::<Path, Token![,]>::parse_terminated).ok());
    paths.flatten().filter_map(|path| path.segments.last().map(|segment| segment.ident.clone())).collect()
}

/// Removes the helper attributes, and what would cause another error.
fn strip(input: &mut DeriveInput) {
    let keep = |attrs: &mut Vec<Attribute>| attrs.retain(|attr| !attr.path().is_ident("pongo"));
    let keep_fields = |fields: &mut Fields| {
        fields.iter_mut().for_each(|field| {
            keep(&mut field.attrs);
            field.ty = kept(&field.ty);
        });
    };
    keep(&mut input.attrs);
    match &mut input.data {
        Data::Struct(data) => keep_fields(&mut data.fields),
        Data::Enum(data) => {
            for variant in &mut data.variants {
                keep(&mut variant.attrs);
                keep_fields(&mut variant.fields);
            }
        }
        Data::Union(_) => {}
    }
}
