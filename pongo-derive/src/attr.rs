//! Parses `#[pongo(...)]` on structs, enums and fields, and `#[repr(...)]`; reports an error at
//! each invalid part.

use proc_macro2::Span;
use syn::meta::ParseNestedMeta;
use syn::spanned::Spanned;
use syn::{Attribute, Error, Ident, LitStr, Meta, Path, Token};

/// All errors that were found, so that one build reports every one of them.
#[derive(Default)]
pub(crate) struct Errors(Option<Error>);

impl Errors {
    pub(crate) fn push(&mut self, error: Error) {
        match &mut self.0 {
            Some(errors) => errors.combine(error),
            None => self.0 = Some(error),
        }
    }

    pub(crate) fn at(&mut self, span: Span, message: impl std::fmt::Display) {
        self.push(Error::new(span, message));
    }

    /// Adds an error that spans all of `tokens`.
    pub(crate) fn on(&mut self, tokens: impl quote::ToTokens, message: impl std::fmt::Display) {
        self.push(Error::new_spanned(tokens, message));
    }

    pub(crate) fn append(&mut self, others: Self) {
        if let Some(error) = others.0 {
            self.push(error);
        }
    }

    pub(crate) fn into_error(self) -> Option<Error> {
        self.0
    }

    pub(crate) fn take<T>(&mut self, result: syn::Result<T>) -> Option<T> {
        result.map_err(|error| self.push(error)).ok()
    }

    /// Adds a last error after which parsing cannot continue, and returns all of them.
    pub(crate) fn and(self, last: Error) -> Error {
        match self.0 {
            Some(mut errors) => {
                errors.combine(last);
                errors
            }
            None => last,
        }
    }

    pub(crate) fn into_result<T>(self, value: T) -> syn::Result<T> {
        match self.0 {
            Some(errors) => Err(errors),
            None => Ok(value),
        }
    }
}

/// The attributes `#[pongo(...)]` of a struct or an enum.
#[derive(Default)]
pub(crate) struct TypeAttrs {
    pub(crate) table: Option<LitStr>,
    pub(crate) krate: Option<LitStr>,
    /// `key = "external"`
    pub(crate) external: Option<Span>,
    pub(crate) indexes: Vec<IndexAttr>,
}

/// `index(a, b)` or `unique(a, b)`.
pub(crate) struct IndexAttr {
    pub(crate) unique: bool,
    pub(crate) fields: Vec<Ident>,
    pub(crate) span: Span,
}

/// The attributes `#[pongo(...)]` of a field.
#[derive(Default)]
pub(crate) struct FieldAttrs {
    pub(crate) key: Option<Span>,
    pub(crate) index: Option<Span>,
    pub(crate) unique: Option<Span>,
    /// `column = "NAME"`
    pub(crate) column: Option<Ident>,
}

const ON_TYPE: &str = "`table = \"…\"`, `key = \"external\"`, `crate = \"…\"`, `index(…)` or \
     `unique(…)`";
const ON_FIELD: &str = "`key`, `index`, `unique` or `column = \"NAME\"`";

impl TypeAttrs {
    pub(crate) fn read(attrs: &[Attribute], errors: &mut Errors) -> Self {
        let mut found = Self::default();
        // A name that is not allowed does not end the list.
        let mut names = Errors::default();
        each(attrs, ON_TYPE, errors, |meta| {
            if meta.path.is_ident("table") {
                once(&found.table, &meta)?;
                let name: LitStr = string(&meta, "table = \"flights\"")?;
                names.take(check_table_name(&name));
                found.table = Some(name);
            } else if meta.path.is_ident("crate") {
                once(&found.krate, &meta)?;
                let path: LitStr = string(&meta, "crate = \"pongo\"")?;
                if path.parse_with(Path::parse_mod_style).is_err() {
                    names.at(path.span(), "expected the path of the pongo crate, as in `crate = \"pongo\"`");
                }
                found.krate = Some(path);
            } else if meta.path.is_ident("index") || meta.path.is_ident("unique") {
                found.indexes.push(index(&meta)?);
            } else if meta.path.is_ident("key") {
                if !meta.input.peek(Token![=]) {
                    return Err(meta.error(
                        "a key is made of fields: write `#[pongo(key)]` above the field; or `key = \
                         \"external\"` here, for keys that are no fields of the struct",
                    ));
                }
                once(&found.external, &meta)?;
                let what: LitStr = string(&meta, "key = \"external\"")?;
                if what.value() != "external" {
                    return Err(Error::new(
                        what.span(),
                        "expected `key = \"external\"`: any bytes, which are no fields of the struct; a \
                         field is made the key by `#[pongo(key)]` above it",
                    ));
                }
                found.external = Some(what.span());
            } else {
                return Err(unknown(&meta, "a struct or an enum", ON_TYPE));
            }
            Ok(())
        });
        errors.append(names);
        found
    }
}

impl FieldAttrs {
    pub(crate) fn read(attrs: &[Attribute], errors: &mut Errors) -> Self {
        let mut found = Self::default();
        each(attrs, ON_FIELD, errors, |meta| {
            let place = if meta.path.is_ident("key") {
                &mut found.key
            } else if meta.path.is_ident("index") {
                &mut found.index
            } else if meta.path.is_ident("unique") {
                &mut found.unique
            } else if meta.path.is_ident("column") {
                once(&found.column, &meta)?;
                found.column = Some(column(&meta)?);
                return Ok(());
            } else if meta.path.is_ident("table") || meta.path.is_ident("crate") {
                let name = name_of(&meta.path);
                return Err(meta
                    .error(format!("`{name}` says something about the whole struct: write it above that")));
            } else {
                return Err(unknown(&meta, "a field", ON_FIELD));
            };
            if place.is_some() {
                return Err(twice(&meta));
            }
            if !meta.input.is_empty() && !meta.input.peek(Token![,]) {
                let name = name_of(&meta.path);
                if name == "key" {
                    return Err(meta.error(
                        "on a field `key` stands alone: write `#[pongo(key)]`; a key that is no field \
                         is said above the struct: `#[pongo(key = \"external\")]`",
                    ));
                }
                return Err(meta.error(format!(
                    "on a field `{name}` stands alone: write `#[pongo({name})]`; several fields go \
                     above the struct, as in `#[pongo(index(a, b))]`"
                )));
            }
            *place = Some(meta.path.span());
            Ok(())
        });
        if let (Some(span), Some(_)) = (found.index, found.unique) {
            errors.at(span, "`unique` is an index already: remove `index`");
        }
        found
    }
}

/// Rejects `#[pongo(...)]` on the variants of an enum, where it has no meaning.
pub(crate) fn none(attrs: &[Attribute], errors: &mut Errors) {
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("pongo")) {
        errors.on(attr, "there is nothing to say about a variant: remove this attribute");
    }
}

fn each(
    attrs: &[Attribute],
    known: &str,
    errors: &mut Errors,
    mut read: impl FnMut(ParseNestedMeta<'_>) -> syn::Result<()>,
) {
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("pongo")) {
        match &attr.meta {
            Meta::List(list) if !list.tokens.is_empty() => {
                errors.take(attr.parse_nested_meta(&mut read));
            }
            _ => errors.on(attr, format!("expected `#[pongo(…)]` with {known} in it")),
        }
    }
}

fn once<T>(found: &Option<T>, meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
    if found.is_some() { Err(twice(meta)) } else { Ok(()) }
}

fn twice(meta: &ParseNestedMeta<'_>) -> Error {
    meta.error(format!("`{}` was said already: remove one of the two", name_of(&meta.path)))
}

fn unknown(meta: &ParseNestedMeta<'_>, place: &str, known: &str) -> Error {
    meta.error(format!("`{}` means nothing on {place}: expected {known}", name_of(&meta.path)))
}

fn name_of(path: &Path) -> String {
    path.segments.iter().map(|segment| segment.ident.to_string()).collect::<Vec<_>>().join("::")
}

fn string(meta: &ParseNestedMeta<'_>, example: &str) -> syn::Result<LitStr> {
    let value = meta.value().and_then(|value| value.parse());
    value.map_err(|error| Error::new(error.span(), format!("expected a string, as in `{example}`")))
}

fn column(meta: &ParseNestedMeta<'_>) -> syn::Result<Ident> {
    let name = string(meta, "column = \"LIMIT\"")?;
    name.parse().map_err(|_| {
        let message = "expected the name of a constant, as in `column = \"LIMIT\"`";
        Error::new(name.span(), message)
    })
}

fn index(meta: &ParseNestedMeta<'_>) -> syn::Result<IndexAttr> {
    let unique = meta.path.is_ident("unique");
    let name = name_of(&meta.path);
    let mut fields: Vec<Ident> = Vec::new();
    let listed = meta.parse_nested_meta(|field| {
        let ident = field.path.require_ident()?.clone();
        if fields.contains(&ident) {
            return Err(Error::new(
                ident.span(),
                format!("`{ident}` is in this index already: name it once"),
            ));
        }
        fields.push(ident);
        Ok(())
    });
    match listed {
        Err(error) if fields.is_empty() => Err(Error::new(
            error.span(),
            format!(
                "expected fields in brackets, as in `{name}(a, b)`; for one field write \
                 `#[pongo({name})]` above it"
            ),
        )),
        Err(error) => Err(error),
        Ok(()) if fields.is_empty() => Err(meta.error(format!("name the fields, as in `{name}(a, b)`"))),
        Ok(()) => Ok(IndexAttr { unique, fields, span: meta.path.span() }),
    }
}

/// Implements the rule of `pongo_core::schema::is_table_name`; the derive asserts that the two
/// agree.
pub(crate) fn is_table_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-')
}

fn check_table_name(name: &LitStr) -> syn::Result<()> {
    if is_table_name(&name.value()) {
        return Ok(());
    }
    Err(Error::new(
        name.span(),
        "a table's name is 1 to 64 of a-z, 0-9, `_` and `-`, and begins with a letter: it names a \
         folder of the store",
    ))
}

/// All `#[repr(...)]` attributes of a type together.
#[derive(Default)]
pub(crate) struct Repr {
    pub(crate) c: bool,
    pub(crate) packed: Option<Span>,
    pub(crate) transparent: Option<Span>,
    pub(crate) align: Option<Span>,
    /// `u8`, `i16`, …
    pub(crate) integer: Option<Ident>,
}

impl Repr {
    /// Parses the attributes; errors that the compiler reports itself are ignored.
    pub(crate) fn read(attrs: &[Attribute]) -> Self {
        let mut found = Self::default();
        for attr in attrs.iter().filter(|attr| attr.path().is_ident("repr")) {
            let _ = attr.parse_nested_meta(|meta| {
                let span = meta.path.span();
                match name_of(&meta.path).as_str() {
                    "C" => found.c = true,
                    "packed" => found.packed = Some(span),
                    "transparent" => found.transparent = Some(span),
                    "align" => found.align = Some(span),
                    _ => found.integer = meta.path.get_ident().cloned(),
                }
                if meta.input.peek(syn::token::Paren) {
                    let content;
                    syn::parenthesized!(content in meta.input);
                    content.parse::<proc_macro2::TokenStream>()?;
                }
                Ok(())
            });
        }
        found
    }
}
