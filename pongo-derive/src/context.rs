//! Helpers for all generated code: the paths it names, spans, the cell of a `Maybe`, and case
//! conversion.

use proc_macro2::{Group, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{LitStr, Path, Type};

/// The paths of one macro expansion.
pub(crate) struct Paths {
    /// `::pongo::__private`
    pub(crate) private: TokenStream,
    /// The path of zerocopy, for its own attribute.
    pub(crate) zerocopy: String,
}

impl Paths {
    /// Creates the paths for the crate that `#[pongo(crate = "…")]` names. A path that is not
    /// explicitly relative is resolved from the extern prelude, so that no module of the user can
    /// shadow it.
    pub(crate) fn new(krate: Option<&LitStr>) -> Self {
        let path = krate.and_then(|krate| krate.parse_with(Path::parse_mod_style).ok());
        let mut path = path.unwrap_or_else(|| syn::parse_quote!(pongo));
        let relative = path
            .segments
            .first()
            .is_some_and(|first| ["crate", "self", "super"].iter().any(|keyword| first.ident == keyword));
        if !relative {
            path.leading_colon = Some(<syn::Token![::]>::default());
        }
        let zerocopy = quote!(#path::__private::zerocopy).to_string().replace(' ', "");
        Self { private: quote!(#path::__private), zerocopy }
    }

    /// Returns the derives of the traits that establish which bytes are valid values of a type.
    pub(crate) fn zerocopy_derives(&self) -> [(&'static str, TokenStream); 3] {
        ["TryFromBytes", "Immutable", "KnownLayout"].map(|name| (name, self.zerocopy_derive(name)))
    }

    /// Returns the path of a derive of zerocopy.
    pub(crate) fn zerocopy_derive(&self, name: &str) -> TokenStream {
        let private = &self.private;
        let ident = Ident::new(name, Span::call_site());
        quote!(#private::zerocopy::#ident)
    }

    /// Returns the path with such spans that an error in the call is reported at `span`.
    pub(crate) fn at(&self, span: Span) -> TokenStream {
        let span = span.resolved_at(Span::call_site());
        let respan = |mut token: TokenTree| {
            token.set_span(span);
            token
        };
        self.private.clone().into_iter().map(respan).collect()
    }
}

/// Generates the type's `Optional` implementation, so that it can be used in a `Maybe`.
pub(crate) fn optional(paths: &Paths, ident: &Ident) -> TokenStream {
    let private = &paths.private;
    quote! {
        #[automatically_derived]
        impl #private::Optional for #ident where for<'pongo> #ident: #private::DerivedFor<'pongo> {
            type Cell = #private::Tagged<Self::Tag, Self>;
            type ArrayCell<const N: #private::core::primitive::usize> =
                #private::Tagged<Self::Tag, [Self; N]>;
            type Tag = <[(); #private::tag_width(#private::core::mem::align_of::<#ident>())]
                as #private::TagOf>::Tag;
        }
    }
}

/// Returns a field's type with the name of its struct in place of `Self`, as in `[u8; Self::N]`: the
/// generated code names the type outside of the struct too.
pub(crate) fn without_self(ty: &Type, ident: &Ident) -> Type {
    fn replace(tokens: TokenStream, ident: &Ident) -> TokenStream {
        let token = |token: TokenTree| match token {
            TokenTree::Ident(name) if name == "Self" => {
                let mut ident = ident.clone();
                ident.set_span(name.span());
                TokenTree::Ident(ident)
            }
            TokenTree::Group(group) => {
                let mut replaced = Group::new(group.delimiter(), replace(group.stream(), ident));
                replaced.set_span(group.span());
                TokenTree::Group(replaced)
            }
            token => token,
        };
        tokens.into_iter().map(token).collect()
    }
    syn::parse2(replace(ty.to_token_stream(), ident)).unwrap_or_else(|_| ty.clone())
}

/// Returns an identifier's text, without `r#`.
pub(crate) fn plain(ident: &Ident) -> String {
    let text = ident.to_string();
    text.strip_prefix("r#").map(str::to_owned).unwrap_or(text)
}

/// Converts to snake case: `FlightLeg` -> `flight_leg`, `HTTPLog` -> `http_log`.
pub(crate) fn snake_case(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    let mut snake = String::new();
    for (place, c) in chars.iter().enumerate() {
        let before = place.checked_sub(1).map(|before| chars[before]);
        let begins_word = c.is_uppercase()
            && before.is_some_and(|before| {
                let in_capitals =
                    before.is_uppercase() && chars.get(place + 1).is_some_and(|next| next.is_lowercase());
                before.is_lowercase() || before.is_numeric() || in_capitals
            });
        if begins_word {
            snake.push('_');
        }
        snake.extend(c.to_lowercase());
    }
    snake
}

/// Returns a span that reports errors at `span` but resolves names where the macro was called.
pub(crate) fn at(span: Span) -> Span {
    span.resolved_at(Span::call_site())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snake_case_splits_at_words() {
        for (name, snake) in [
            ("Flight", "flight"),
            ("FlightLeg", "flight_leg"),
            ("HTTPLog", "http_log"),
            ("Route66Stop", "route66_stop"),
            ("ABC", "abc"),
            ("Already_Snake", "already_snake"),
        ] {
            assert_eq!(snake_case(name), snake);
        }
    }

    #[test]
    fn self_is_replaced_at_any_depth() {
        let ident = Ident::new("Row", Span::call_site());
        let replaced = |ty: &str| {
            let ty: Type = syn::parse_str(ty).expect("a type");
            without_self(&ty, &ident).to_token_stream().to_string().replace(' ', "")
        };
        assert_eq!(replaced("[u8; Self::N]"), "[u8;Row::N]");
        assert_eq!(replaced("Maybe<[[u8; { 2 * Self::N }]; 3]>"), "Maybe<[[u8;{2*Row::N}];3]>");
        assert_eq!(replaced("[u8; <Self as Has>::N]"), "[u8;<RowasHas>::N]");
        assert_eq!(replaced("Selfish"), "Selfish");
    }

    #[test]
    fn crate_paths_use_the_extern_prelude() {
        let zerocopy = |path: &str| Paths::new(Some(&LitStr::new(path, Span::call_site()))).zerocopy;
        assert_eq!(zerocopy("renamed"), "::renamed::__private::zerocopy");
        assert_eq!(zerocopy("::renamed"), "::renamed::__private::zerocopy");
        assert_eq!(zerocopy("crate"), "crate::__private::zerocopy");
        assert_eq!(zerocopy("self::inner"), "self::inner::__private::zerocopy");
        assert_eq!(Paths::new(None).zerocopy, "::pongo::__private::zerocopy");
    }
}
