//! The macros of PongoDB.
/// Stub
#[proc_macro_derive(PongoRecord, attributes(pongo))]
pub fn derive_record(_: proc_macro::TokenStream) -> proc_macro::TokenStream {
    Default::default()
}
