//! The files of the stores that are damaged, saved in a folder. No two stores are created alike
//! (their numbers are random, sled's files depend on the timing of its threads), and a case must be
//! the same in the process that counts it, in the child that runs it, and when it is repeated.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::bases::Base;
use crate::image::Image;

/// Environment variable with the folder, for child processes and for repeating a case.
pub(crate) const BASES: &str = "PONGO_BASES";

/// The folder with the files of some bases.
pub(crate) struct Kept {
    path: PathBuf,
    /// Whether this process created it.
    made: bool,
}

impl Kept {
    /// Saves the files of these bases. If `PONGO_BASES` names a folder, replaces their files by
    /// those saved there.
    pub(crate) fn of(bases: &mut [Base]) -> Self {
        if let Some(path) = std::env::var_os(BASES) {
            let path = PathBuf::from(path);
            for (number, base) in bases.iter_mut().enumerate() {
                let mut images = recall(&path.join(number.to_string()));
                let image = images.remove(0);
                base.take_files(image, images);
            }
            return Self { path, made: false };
        }
        let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        for (number, base) in bases.iter().enumerate() {
            let images = std::iter::once(&base.image).chain(&base.history);
            keep(images, &place.path().join(number.to_string()));
        }
        Self { path: place.keep(), made: true }
    }

    /// Returns the path of the folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the files, unless a case failed.
    pub(crate) fn end(self, failed: bool) {
        if failed {
            println!("{BASES}={}", self.path.display());
        } else if self.made {
            fs::remove_dir_all(&self.path).unwrap();
        }
    }
}

/// Writes one file for each distinct content, and a list of the images with their contents.
fn keep<'a>(images: impl Iterator<Item = &'a Image>, place: &Path) {
    fs::create_dir(place).unwrap();
    let mut contents = HashMap::new();
    let mut list = String::new();
    for image in images {
        list.push_str("image\n");
        for folder in &image.folders {
            writeln!(list, "folder {folder}").unwrap();
        }
        for (path, bytes) in &image.files {
            let next = contents.len();
            let content = *contents.entry(Arc::as_ptr(bytes)).or_insert_with(|| {
                fs::write(place.join(next.to_string()), &**bytes).unwrap();
                next
            });
            writeln!(list, "file {content} {path}").unwrap();
        }
    }
    fs::write(place.join("list"), list).unwrap();
}

fn recall(place: &Path) -> Vec<Image> {
    let mut images: Vec<Image> = Vec::new();
    let mut contents: HashMap<&str, Arc<Vec<u8>>> = HashMap::new();
    let list = fs::read_to_string(place.join("list")).unwrap();
    for line in list.lines() {
        if line == "image" {
            images.push(Image::default());
            continue;
        }
        let image = images.last_mut().expect("an image comes first");
        match line.split_once(' ').expect("a word and a name") {
            ("folder", path) => image.folders.push(path.to_owned()),
            (_, file) => {
                let (content, path) = file.split_once(' ').expect("a content and a name");
                let read = || Arc::new(fs::read(place.join(content)).unwrap());
                let bytes = Arc::clone(contents.entry(content).or_insert_with(read));
                image.files.insert(path.to_owned(), bytes);
            }
        }
    }
    images
}
