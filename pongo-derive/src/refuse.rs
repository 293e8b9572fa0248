//! Field types that are rejected by name, each with a suggestion for a replacement.
//!
//! Names are compared syntactically: a user's own type named `String` must be written as
//! `self::String`. Types that are not recognized here (e.g. an alias) are rejected by the trait
//! `FieldType`, with one suggestion for all of them.

use syn::{GenericArgument, Path, PathArguments, Type};

/// Returns the reason why `ty` cannot be a field, with a suggestion; `None` if it is not rejected
/// here.
pub(crate) fn refusal(ty: &Type) -> Option<String> {
    let reason = match ty {
        Type::Array(array) => return refusal(&array.elem),
        Type::Paren(paren) => return refusal(&paren.elem),
        Type::Group(group) => return refusal(&group.elem),
        Type::Path(path) if path.qself.is_none() => return path_refusal(&path.path),
        Type::Reference(_) => {
            "a reference points into the memory of one process: keep the value itself, `Text` or `Blob`"
        }
        Type::Ptr(_) => "a pointer means nothing in another process: keep the value itself, or its key",
        Type::BareFn(_) => {
            "a function's address differs from process to process: keep an enum that says which"
        }
        Type::Slice(_) => "a slice has no fixed size: keep an array, or `Blob`",
        Type::Tuple(_) => "a tuple has no fixed layout: make it a struct with `#[pongo::record]`",
        Type::TraitObject(_) => {
            "a trait object points into the memory of one process: keep an enum and its data"
        }
        Type::Never(_) => "`!` has no values: remove this field",
        _ => return None,
    };
    Some(reason.to_owned())
}

/// Returns whether the type is a `Maybe` or an array of some.
fn holds_maybe(ty: &Type) -> bool {
    match ty {
        Type::Array(array) => holds_maybe(&array.elem),
        Type::Path(path) => path.path.segments.last().is_some_and(|last| last.ident == "Maybe"),
        _ => false,
    }
}

/// Returns the type for a refused field of a type that is kept for its users: an `Option` for a
/// `Maybe`, whose own bound on its parameter would be a second error.
pub(crate) fn kept(ty: &Type) -> Type {
    let (Type::Path(path), Some(_)) = (ty, refusal(ty)) else { return ty.clone() };
    match path.path.segments.last() {
        Some(last) if last.ident == "Maybe" => {
            let arguments = &last.arguments;
            syn::parse_quote!(::core::option::Option #arguments)
        }
        _ => ty.clone(),
    }
}

fn path_refusal(path: &Path) -> Option<String> {
    let last = path.segments.last()?;
    let first = path.segments.first()?.ident.to_string();
    if path.segments.len() > 1 && !matches!(first.as_str(), "std" | "core" | "alloc" | "uuid") {
        return None;
    }
    let argument = match &last.arguments {
        PathArguments::AngleBracketed(arguments) => {
            arguments.args.iter().find_map(|argument| match argument {
                GenericArgument::Type(ty) => Some(ty),
                _ => None,
            })
        }
        _ => None,
    };
    let of = |ty: Option<&Type>| {
        ty.map_or_else(|| "T".to_owned(), |ty| quote::quote!(#ty).to_string().replace(' ', ""))
    };
    let name = last.ident.to_string();
    let hint = match name.as_str() {
        "usize" => "`usize` has another size on other machines: write `u64`".to_owned(),
        "isize" => "`isize` has another size on other machines: write `i64`".to_owned(),
        "NonZeroUsize" => "`usize` has another size on other machines: write `NonZeroU64`".to_owned(),
        "NonZeroIsize" => "`isize` has another size on other machines: write `NonZeroI64`".to_owned(),
        "NonZero" => return argument.and_then(refusal),
        "String" | "str" | "OsString" | "PathBuf" | "CString" => {
            format!(
                "the text of a `{name}` is stored outside the record: write `Text` (in the heap) or \
                 `FixedStr<N>` (in the row)"
            )
        }
        "Vec" | "VecDeque" => {
            let of = of(argument);
            format!(
                "the elements of a `{name}` are stored outside the record: write `[{of}; N]`, or `Blob` \
                 for bytes of any number"
            )
        }
        "HashMap" | "BTreeMap" | "HashSet" | "BTreeSet" | "LinkedList" | "BinaryHeap" => {
            format!(
                "the elements of a `{name}` are stored outside the record: make them rows of a table of \
                 their own"
            )
        }
        "Option" => format!("`Option` has no fixed layout: write `Maybe<{}>`", of(argument)),
        "Box" | "Rc" | "Arc" | "Cow" => {
            format!(
                "a `{name}` points into the memory of one process: write `{}` itself, or `Maybe` of it",
                of(argument)
            )
        }
        // Without an argument it is a user's own type, e.g. a map that has cells.
        "Cell" | "RefCell" | "UnsafeCell" | "Mutex" | "RwLock" | "OnceCell" if argument.is_some() => {
            format!("rows never change in place, so `{name}` has no use: write `{}`", of(argument))
        }
        "SystemTime" | "Instant" => format!("`{name}` has no fixed layout: write `Timestamp`"),
        "Duration" => {
            "`Duration` has no fixed layout: write `i64`, with the unit in the field's name".to_owned()
        }
        "Uuid" if first == "uuid" => {
            "`uuid::Uuid` is not PongoDB's: write `pongo::Uuid`, which converts both ways".to_owned()
        }
        "Maybe" if argument.is_some_and(holds_maybe) => {
            "a `Maybe` cannot stand in a `Maybe`: write one of the two".to_owned()
        }
        "Maybe" => return argument.and_then(refusal),
        _ => return None,
    };
    Some(hint)
}
