//! `#[derive(PongoRecord)]` on a struct: parsing and the rejection of unsupported structs.

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::{Attribute, DataStruct, DeriveInput, Error, Fields, Ident, Member, Type, Visibility};

use crate::attr::{Errors, FieldAttrs, IndexAttr, Repr, TypeAttrs, is_table_name};
use crate::context::{Paths, at, plain, snake_case, without_self};
use crate::refuse::refusal;

/// Maximum number of key fields: larger tuples do not implement `Eq` or `Debug`.
const MAX_KEY_FIELDS: usize = 12;

/// The names of the fields before a record with an external key.
pub(crate) const ROW_FIELDS: [&str; 2] = ["_digest", "_key"];

/// A struct that passed every check that can be made on its syntax.
pub(crate) struct Record<'i> {
    pub(crate) vis: &'i Visibility,
    pub(crate) ident: &'i Ident,
    pub(crate) name: String,
    pub(crate) paths: Paths,
    pub(crate) fields: Vec<RecordField<'i>>,
    /// Whether it is a tuple struct, which has one field and the kind of that field.
    pub(crate) newtype: bool,
    /// The properties of a table's record; `None` for a struct that is only a field of others.
    pub(crate) table: Option<Table>,
    /// Errors in the attributes. The code is generated nevertheless, so that the struct's users do
    /// not cause more errors.
    pub(crate) errors: Option<Error>,
}

pub(crate) struct RecordField<'i> {
    pub(crate) member: Member,
    pub(crate) name: String,
    /// The declared type, with the name of the struct in place of `Self`.
    pub(crate) ty: Type,
    pub(crate) vis: &'i Visibility,
    /// The name of the field's column. `None` for padding, and in a struct without a table.
    pub(crate) column: Option<Ident>,
    /// The field's `#[deprecated]`, which its column has too.
    pub(crate) deprecated: Option<&'i Attribute>,
}

pub(crate) struct Table {
    pub(crate) name: String,
    /// Whether the key is not a field but arbitrary bytes.
    pub(crate) external: bool,
    /// Indices into the fields.
    pub(crate) key: Vec<usize>,
    pub(crate) indexes: Vec<Index>,
}

pub(crate) struct Index {
    pub(crate) name: String,
    /// Indices into the fields.
    pub(crate) fields: Vec<usize>,
    pub(crate) unique: bool,
}

impl<'i> Record<'i> {
    /// Parses and checks a struct. `need_repr` is false if the caller is about to add `repr(C)`.
    /// Returns an error if no code can be generated for it.
    pub(crate) fn read(input: &'i DeriveInput, data: &'i DataStruct, need_repr: bool) -> syn::Result<Self> {
        let mut errors = Errors::default();
        let mut fatal = Errors::default();
        let attrs = TypeAttrs::read(&input.attrs, &mut errors);
        let ident = &input.ident;
        check_generics(input, &mut fatal);
        let repr = Repr::read(&input.attrs);
        let newtype = matches!(&data.fields, Fields::Unnamed(unnamed) if unnamed.unnamed.len() == 1);
        check_repr(ident, &repr, need_repr, newtype, &mut fatal);

        let named = match &data.fields {
            Fields::Named(named) if !named.named.is_empty() => &named.named,
            Fields::Unnamed(unnamed) if newtype => &unnamed.unnamed,
            Fields::Unnamed(unnamed) => {
                errors.append(fatal);
                return Err(errors.and(Error::new_spanned(
                    unnamed,
                    "the schema names each field: give these names, as in `struct S { value: u64 }`",
                )));
            }
            Fields::Named(_) | Fields::Unit => {
                let message = format!("`{ident}` has no bytes: give it at least one field");
                errors.append(fatal);
                return Err(errors.and(Error::new(ident.span(), message)));
            }
        };

        let mut fields = Vec::new();
        let mut field_attrs = Vec::new();
        for field in named {
            field_attrs.push(FieldAttrs::read(&field.attrs, &mut errors));
            if let Some(reason) = refusal(&field.ty) {
                fatal.on(&field.ty, reason);
            }
            let deprecated = field.attrs.iter().find(|attr| attr.path().is_ident("deprecated"));
            let (name, member) = match &field.ident {
                Some(ident) => (plain(ident), Member::Named(ident.clone())),
                None => ("0".to_owned(), Member::Unnamed(0.into())),
            };
            let ty = without_self(&field.ty, &input.ident);
            fields.push(RecordField { member, name, ty, vis: &field.vis, column: None, deprecated });
        }
        let table = if newtype {
            no_table(&attrs, &field_attrs, &mut errors);
            None
        } else {
            table(ident, &attrs, &fields, &field_attrs, &mut errors)
        };
        if table.is_some() {
            name_columns(&mut fields, &field_attrs, &mut errors);
        }
        if let (None, Some(align)) = (&table, repr.align) {
            fatal.at(
                align,
                "a record without a key is a field of others and is aligned as its own fields are: \
                 remove `align`",
            );
        }
        if let Some(error) = fatal.into_error() {
            return Err(errors.and(error));
        }
        Ok(Self {
            vis: &input.vis,
            ident,
            name: plain(ident),
            paths: Paths::new(attrs.krate.as_ref()),
            fields,
            newtype,
            table,
            errors: errors.into_error(),
        })
    }
}

fn check_generics(input: &DeriveInput, errors: &mut Errors) {
    let generics = &input.generics;
    if !generics.params.is_empty() {
        errors.on(
            &generics.params,
            "a table holds rows of one layout, so a record cannot be generic: write the types out, one \
             struct for each",
        );
    } else if let Some(clause) = &generics.where_clause {
        errors.on(clause, "a record is not generic and needs no `where`: remove it");
    }
}

fn check_repr(ident: &Ident, repr: &Repr, need_repr: bool, newtype: bool, errors: &mut Errors) {
    if let Some(span) = repr.packed {
        errors.at(
            span,
            "fields of a packed struct cannot be borrowed: remove `packed`, and move the fields with \
             the larger alignment up",
        );
    } else if let Some(span) = repr.transparent {
        if newtype {
            return;
        }
        errors.at(
            span,
            "the layout of a record is that of C: write `#[repr(C)]`, which is the same for one field",
        );
    } else if need_repr && !repr.c {
        errors.at(
            ident.span(),
            format!(
                "`{ident}` has no fixed layout: write `#[repr(C)]` above it, or `#[pongo::record]` in \
                 place of the derive"
            ),
        );
    }
}

/// Returns key, indexes and name, or `None` if no field is a key.
fn table(
    ident: &Ident,
    attrs: &TypeAttrs,
    fields: &[RecordField<'_>],
    field_attrs: &[FieldAttrs],
    errors: &mut Errors,
) -> Option<Table> {
    let key: Vec<usize> = (0..field_attrs.len()).filter(|place| field_attrs[*place].key.is_some()).collect();
    if attrs.external.is_some() {
        for span in field_attrs.iter().filter_map(|attrs| attrs.key) {
            errors.at(span, "the key is external: remove this, or `key = \"external\"` above the struct");
        }
        for field in fields.iter().filter(|field| ROW_FIELDS.contains(&&*field.name)) {
            let name = &field.name;
            errors.at(
                field.member.span(),
                format!("`{name}` is what rows with an external key begin with: name this field otherwise"),
            );
        }
    } else if key.is_empty() {
        no_key(attrs, field_attrs, errors);
        return None;
    }
    if let Some(span) = key.get(MAX_KEY_FIELDS).and_then(|place| field_attrs[*place].key) {
        errors.at(span, "a key has at most 12 fields: combine some of them into a `FixedStr` or an array");
    }

    let mut indexes: Vec<Index> = Vec::new();
    let mut add = |places: Vec<usize>, unique, span: Span, errors: &mut Errors| {
        if places == key && !places.is_empty() {
            errors.at(span, "the key has an index and is unique already: remove this one");
        }
        let name = places.iter().map(|place| fields[*place].name.as_str()).collect::<Vec<_>>().join("+");
        if indexes.iter().any(|index| index.name == name) {
            errors.at(span, format!("`{name}` has an index already: remove one of the two"));
        }
        indexes.push(Index { name, fields: places, unique });
    };
    for (place, attrs) in field_attrs.iter().enumerate() {
        if let Some(span) = attrs.unique {
            add(vec![place], true, span, errors);
        } else if let Some(span) = attrs.index {
            add(vec![place], false, span, errors);
        }
    }
    for index in &attrs.indexes {
        if let Some(places) = places_of(ident, index, fields, errors) {
            add(places, index.unique, index.span, errors);
        }
    }

    let name = match &attrs.table {
        Some(name) => name.value(),
        None => snake_case(&plain(ident)),
    };
    let allowed = is_table_name(&name);
    if attrs.table.is_none() && !allowed {
        errors.at(
            ident.span(),
            format!(
                "`{name}`, made from the type's name, cannot name a table (1 to 64 of a-z, 0-9, `_` and \
                 `-`, with a letter first): write `#[pongo(table = \"…\")]` above the struct"
            ),
        );
    }
    // After an error, a name that causes no others.
    let name = if allowed { name } else { "refused".to_owned() };
    Some(Table { name, external: attrs.external.is_some(), key, indexes })
}

/// Names the columns: `CARRIER` for `carrier`, unless the field's attribute names another constant.
/// Fields that begin with `_` are padding and have a column only if it is named. A column that cannot
/// be named is left out, with an error.
fn name_columns(fields: &mut [RecordField<'_>], attrs: &[FieldAttrs], errors: &mut Errors) {
    const HINT: &str = "name its column by `#[pongo(column = \"…\")]` above it";
    for (place, attrs) in attrs.iter().enumerate() {
        let (before, rest) = fields.split_at_mut(place);
        let Some(field) = rest.first_mut() else { break };
        let span = field.member.span();
        let column = match &attrs.column {
            Some(column) => column.clone(),
            None if field.name.starts_with('_') => continue,
            None => match syn::parse_str::<Ident>(&field.name.to_uppercase()) {
                Ok(column) => Ident::new(&column.to_string(), at(span)),
                Err(_) => {
                    errors.at(span, format!("`{}` in capitals is not a constant's name: {HINT}", field.name));
                    continue;
                }
            },
        };
        match before.iter().find(|other| other.column.as_ref().is_some_and(|other| *other == column)) {
            Some(other) => errors.at(
                attrs.column.as_ref().map_or(span, Ident::span),
                format!("`{column}` is the column of `{}` already: {HINT}", other.name),
            ),
            None => field.column = Some(column),
        }
    }
}

fn places_of(
    ident: &Ident,
    index: &IndexAttr,
    fields: &[RecordField<'_>],
    errors: &mut Errors,
) -> Option<Vec<usize>> {
    let mut places = Vec::new();
    for wanted in &index.fields {
        match fields.iter().position(|field| field.name == plain(wanted)) {
            Some(place) => places.push(place),
            None => {
                errors.at(wanted.span(), format!("`{ident}` has no field `{wanted}`: name one that it has"))
            }
        }
    }
    (places.len() == index.fields.len()).then_some(places)
}

/// Reports an error for every attribute of a tuple struct that requires a table.
fn no_table(attrs: &TypeAttrs, field_attrs: &[FieldAttrs], errors: &mut Errors) {
    let on_type = attrs.table.as_ref().map(|table| table.span()).into_iter().chain(attrs.external);
    let on_fields = field_attrs.iter().flat_map(|attrs| {
        let column = attrs.column.as_ref().map(Ident::span);
        [attrs.key, attrs.index, attrs.unique, column]
    });
    let indexes = attrs.indexes.iter().map(|index| index.span);
    for span in on_type.chain(on_fields.flatten()).chain(indexes) {
        errors.at(
            span,
            "a tuple struct is a field of records and not a table: remove this, or name the field, as in \
             `struct S { value: u64 }`",
        );
    }
}

/// Reports an error for every attribute that requires a table, since without a key there is no
/// table.
fn no_key(attrs: &TypeAttrs, field_attrs: &[FieldAttrs], errors: &mut Errors) {
    const HINT: &str = "write `#[pongo(key)]` above the field by which rows are found";
    if let Some(table) = &attrs.table {
        errors.at(table.span(), format!("a table has a key, and no field is one: {HINT}"));
    }
    for column in field_attrs.iter().filter_map(|attrs| attrs.column.as_ref()) {
        errors.at(
            column.span(),
            format!("only a table has columns, and a table has a key: {HINT}, or remove this"),
        );
    }
    let on_fields = field_attrs.iter().flat_map(|attrs| [attrs.index, attrs.unique]).flatten();
    for span in on_fields.chain(attrs.indexes.iter().map(|index| index.span)) {
        errors.at(span, format!("only a table has indexes, and a table has a key: {HINT}, or remove this"));
    }
}
