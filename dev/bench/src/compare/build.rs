//! Builds the program of `base/` against the library of this working tree and against that of
//! another commit.
//!
//! Both builds see the same paths: they reach the library through a link,
//! `target/base-build/source`, next to the program. Symbols and the order of functions depend on
//! paths, so the same source results in the same code. Each of the two builds has a separate target
//! folder, which is kept for the next run; the checkout of the commit is removed after its program
//! is built.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::program::output;

/// Path of a built program, and the title of its commit.
type Built = (PathBuf, String);

/// Builds the program of this working tree, including uncommitted changes, and that of the commit.
pub(crate) fn both(commit: &str) -> Result<(Built, Built)> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let repository = package.ancestors().nth(2).context("the package is in a workspace")?;
    both_of(repository, &package.join("base"), commit)
}

fn both_of(repository: &Path, program: &Path, commit: &str) -> Result<(Built, Built)> {
    let resolved = git(repository, &["rev-parse", "--verify", "--quiet", &format!("{commit}^{{commit}}")])
        .with_context(|| format!("git finds no commit {commit:?} here: name another, or fetch it"))?;
    let work = repository.join("target").join("base-build");
    fs::create_dir_all(&work)?;
    let lock = File::create(work.join("lock"))?;
    if lock.try_lock().is_err() {
        eprintln!("waiting for another build in {}", work.display());
        lock.lock()?;
    }
    let changes = git(repository, &["status", "--porcelain", "--untracked-files=no"])?;
    let changed = if changes.is_empty() { "" } else { ", with changes" };
    let first_title = format!("this tree ({}{changed})", subject(repository, "HEAD")?);
    let first = build(repository, program, &work, "first")?;
    let checkout = Checkout::new(repository, &resolved, work.join("checkout"))?;
    let base = build(&checkout.path, program, &work, "base").with_context(|| {
        format!(
            "the program in {} must compile against both commits: see the rules in its main.rs",
            program.display()
        )
    })?;
    Ok(((first, first_title), (base, subject(repository, &resolved)?)))
}

/// Returns the short name and the subject of a commit.
fn subject(repository: &Path, commit: &str) -> Result<String> {
    git(repository, &["show", "--no-patch", "--format=%h %s", commit])
}

fn git(repository: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("git");
    command.arg("-C").arg(repository).args(arguments);
    // git sets these variables when it runs this program, for example in a hook; they would refer
    // to another repository.
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(variable);
    }
    Ok(output(&mut command, Path::new("git"))?.trim_end().to_owned())
}

/// A worktree of a commit, removed when the value is dropped. A worktree that an interrupted run
/// left is removed first.
struct Checkout<'a> {
    repository: &'a Path,
    path: PathBuf,
}

impl<'a> Checkout<'a> {
    fn new(repository: &'a Path, commit: &str, path: PathBuf) -> Result<Checkout<'a>> {
        let checkout = Checkout { repository, path };
        checkout.remove();
        let path = checkout.path.to_string_lossy();
        // `--force` twice also replaces a locked worktree that git still lists although its folder
        // no longer exists.
        git(repository, &["worktree", "add", "--force", "--force", "--detach", "--quiet", &path, commit])?;
        Ok(checkout)
    }

    fn remove(&self) {
        // Fails if the worktree does not exist.
        let _ = git(self.repository, &["worktree", "remove", "--force", &self.path.to_string_lossy()]);
        let _ = fs::remove_dir_all(&self.path);
    }
}

impl Drop for Checkout<'_> {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Builds the program against the library in `source`, in release mode, with that library's lock
/// file and profile.
fn build(source: &Path, program: &Path, work: &Path, name: &str) -> Result<PathBuf> {
    let link = work.join("source");
    if link.is_symlink() {
        fs::remove_file(&link)?;
    }
    symlink(source, &link)?;
    let package = work.join("program");
    if package.exists() {
        fs::remove_dir_all(&package)?;
    }
    fs::create_dir(&package)?;
    for file in fs::read_dir(program)? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            // Keep the modification time, by which cargo decides whether to compile.
            let to = package.join(path.file_name().context("files have names")?);
            fs::copy(&path, &to)?;
            File::options().append(true).open(&to)?.set_modified(path.metadata()?.modified()?)?;
        }
    }
    let manifest = fs::read_to_string(program.join("manifest.toml"))?;
    let profile = release_profile(&fs::read_to_string(source.join("Cargo.toml"))?);
    fs::write(package.join("Cargo.toml"), format!("{manifest}\n{profile}"))?;
    fs::copy(source.join("Cargo.lock"), package.join("Cargo.lock")).context("copying Cargo.lock")?;

    eprintln!("building the program of {name}");
    let target = work.join(name);
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--release", "--quiet", "--target-dir"])
        .arg(&target)
        .current_dir(&package)
        .env_remove("CARGO_BUILD_TARGET")
        .stdin(Stdio::null());
    let status = command.status().context("starting cargo")?;
    ensure!(status.success(), "cargo could not build the program of {name}");
    let built = target.join("release").join("pongo-base");
    if !built.is_file() {
        bail!("cargo did not make {}: is another target set in a configuration?", built.display());
    }
    Ok(built)
}

/// Returns the sections of a manifest that configure release builds.
fn release_profile(manifest: &str) -> String {
    let mut profile = String::new();
    let mut within = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            within = line.starts_with("[profile.release]") || line.starts_with("[profile.release.");
        }
        if within {
            profile.push_str(line);
            profile.push('\n');
        }
    }
    profile
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_profile_is_found() {
        let manifest = "[package]\nname = \"a\"\n[profile.release]\ndebug = 1\n\n\
                        [profile.released]\nlto = true\n[profile.release.package.b]\nopt-level = 1\n\
                        [profile.dev]\nopt-level = 3\n";
        let expected = "[profile.release]\ndebug = 1\n\n[profile.release.package.b]\nopt-level = 1\n";
        assert_eq!(release_profile(manifest), expected);
    }

    /// Creates a repository whose library returns `1` in its commit and `2` in the working tree.
    fn repository(folder: &Path) -> Result<()> {
        fs::create_dir_all(folder.join("src"))?;
        fs::create_dir_all(folder.join("base"))?;
        let package = "[package]\nname = \"pongo\"\nversion = \"0.1.0\"\nedition = \"2024\"\n";
        fs::write(
            folder.join("Cargo.toml"),
            format!("{package}\n[workspace]\n[profile.release]\nopt-level = 0\n"),
        )?;
        let lock = "version = 4\n\n[[package]]\nname = \"pongo\"\nversion = \"0.1.0\"\n";
        fs::write(folder.join("Cargo.lock"), lock)?;
        fs::write(folder.join(".gitignore"), "target\n")?;
        let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("base/manifest.toml"))?;
        let without_rustix: String =
            manifest.lines().filter(|line| !line.starts_with("rustix")).flat_map(|l| [l, "\n"]).collect();
        fs::write(folder.join("base/manifest.toml"), without_rustix)?;
        fs::write(folder.join("base/main.rs"), "fn main() { println!(\"{}\", pongo::NUMBER); }\n")?;
        fs::write(folder.join("src/lib.rs"), "pub const NUMBER: u32 = 1;\n")?;
        git(folder, &["init", "--quiet"])?;
        git(folder, &["add", "."])?;
        let author =
            ["-c", "user.name=a", "-c", "user.email=a@example.invalid", "-c", "commit.gpgsign=false"];
        git(folder, &[&author[..], &["commit", "--quiet", "-m", "the first"]].concat())?;
        fs::write(folder.join("src/lib.rs"), "pub const NUMBER: u32 = 2;\n")?;
        Ok(())
    }

    #[test]
    fn each_program_has_its_library() {
        if Command::new("git").arg("--version").output().is_err() {
            eprintln!("git is not installed: not tested");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        repository(folder.path()).unwrap();
        let base = folder.path().join("base");
        let says = |built: &Built| output(&mut Command::new(&built.0), &built.0).unwrap();
        let worktrees = || git(folder.path(), &["worktree", "list"]).unwrap().lines().count();

        let (first, other) = both_of(folder.path(), &base, "HEAD").unwrap();
        assert_eq!((says(&first).trim(), says(&other).trim()), ("2", "1"));
        assert!(first.1.contains("the first, with changes"), "{}", first.1);
        assert!(other.1.ends_with(" the first"), "{}", other.1);
        assert_eq!((worktrees(), folder.path().join("target/base-build/checkout").exists()), (1, false));

        // A rebuild follows the working tree and the commit, although the target folders still
        // exist.
        git(folder.path(), &["checkout", "--quiet", "src/lib.rs"]).unwrap();
        let (first, other) = both_of(folder.path(), &base, "HEAD").unwrap();
        assert_eq!((says(&first).trim(), says(&other).trim()), ("1", "1"));
        assert_eq!(fs::read(first.0).unwrap().len(), fs::read(other.0).unwrap().len());

        let error = both_of(folder.path(), &base, "nowhere").unwrap_err();
        assert!(error.to_string().contains("no commit \"nowhere\""), "{error:#}");
        // The checkout is removed even if the program does not compile against a library.
        fs::write(base.join("main.rs"), "fn main() { println!(\"{}\", pongo::ABSENT); }\n").unwrap();
        assert!(both_of(folder.path(), &base, "HEAD").is_err());
        assert_eq!(worktrees(), 1);
    }
}
