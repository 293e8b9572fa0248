//! The `{:?}` output of every public error is its message, since programs print errors that way:
//! from `main`, `unwrap` and `expect`.

use std::error::Error;
use std::path::Path;

use pongo::prelude::*;

#[pongo::record]
#[pongo(table = "flights")]
struct Flight {
    #[pongo(key)]
    id: u64,
    carrier: FixedStr<2>,
    via: Maybe<FixedStr<4>>,
    _pad: [u8; 1],
}

fn prints<E: Error>(error: &E) -> String {
    let (debug, display) = (format!("{error:?}"), error.to_string());
    assert_eq!(debug, display);
    debug
}

#[test]
fn too_long_text_names_its_column() {
    let error = FixedStr::<2>::new("UAL").unwrap_err();
    let said = prints(&error);
    assert_eq!(
        said,
        "the text \"UAL\" (3 bytes) does not fit into a FixedStr<2>: shorten it, take a larger N, or keep it \
         as Text"
    );
    // An error as `main` prints it.
    let main = || -> Result<(), Box<dyn Error>> {
        let carrier = Flight::CARRIER.text("UAL")?;
        println!("{carrier}");
        Ok(())
    };
    assert_eq!(
        format!("{:?}", main().unwrap_err()),
        "the text \"UAL\" (3 bytes) does not fit into column `carrier`, a FixedStr<2>: shorten it, take a \
         larger N, or keep it as Text"
    );
    let zero = prints(&Flight::VIA.text("A\0").unwrap_err());
    assert!(zero.contains("byte 1 of the text \"A\\0\" is zero") && zero.contains("column `via`"), "{zero}");
    assert_eq!(Flight::CARRIER.text("UA").unwrap(), "UA");
    assert_eq!(Flight::VIA.text("").unwrap(), "");
}

#[test]
fn unreadable_values_are_named() {
    let said = prints(&"67e55044-10b1-426f-9247-bb680e5fe0cX".parse::<Uuid>().unwrap_err());
    assert!(said.starts_with("the text \"67e55044-10b1-426f-9247-bb680e5fe0cX\" is no UUID: "), "{said}");
}

#[test]
fn all_errors_print_messages() -> Result<(), Box<dyn Error>> {
    let store = Store::in_memory()?;
    let tx = store.begin_write()?;
    let row = Flight { id: 1, carrier: FixedStr::EMPTY, via: Maybe::none(), _pad: [0] };
    tx.table::<Flight>()?.insert(&row)?;
    let error = tx.table::<Flight>()?.insert(&row).unwrap_err();
    assert!(prints(&error).contains("table flights has a row with key id = 1 already"));
    tx.commit()?;
    let snapshot = store.begin_read()?;
    let forged = Text::new(pongo::HeapAddr(1 << 40), 3, 7);
    assert!(prints(&forged.as_str(&snapshot).unwrap_err()).contains("3 bytes at heap address"));
    let corruption =
        pongo::Corruption { file: "super".into(), offset: 8, expected: "a".into(), found: "b".into() };
    assert!(prints(&corruption).starts_with("super is damaged at byte 8"));
    let failure =
        pongo::IoFailure { what: "writing", path: "super".into(), source: std::io::ErrorKind::Other.into() };
    assert!(prints(&failure).starts_with("writing super failed"));
    prints(&pongo::CommitError::from(pongo::StorageError::from(failure)));
    let parse = pongo::schema::StoredSchema::parse("no schema").unwrap_err();
    prints(&parse);
    Ok(())
}

/// No error of these crates derives `Debug`: each prints its message.
#[test]
fn no_error_derives_debug() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src"), root.join("pongo-core/src"), root.join("pongo-index/src")];
    let mut errors = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path)?;
            let derives = text.split("#[derive(").skip(1).filter_map(|rest| rest.split_once(")]"));
            for (derived, _) in derives {
                let names: Vec<&str> = derived
                    .split(',')
                    .map(|name| name.trim().rsplit("::").next().unwrap_or_default())
                    .collect();
                if names.contains(&"Error") {
                    errors += 1;
                    assert!(!names.contains(&"Debug"), "{}: derive({derived})", path.display());
                }
            }
            assert!(!text.contains("std::error::Error for "), "{}: derive it", path.display());
        }
    }
    assert!(errors >= 14, "{errors}");
    Ok(())
}
