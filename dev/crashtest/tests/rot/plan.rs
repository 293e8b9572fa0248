//! The list of damages. They are counted without being created, so that each can be selected by its
//! number and a sample is spread over all of them.

use std::sync::Arc;

use pongo_sim::Random;

use crate::bases::Base;
use crate::damage::{Damage, PAGE};
use crate::image::Image;

/// Damages of one kind to one file.
struct Stratum {
    base: usize,
    kind: Kind,
    /// Number of damages.
    all: u64,
    /// Number of damages that CI tries.
    few: u64,
}

enum Kind {
    Bytes {
        path: String,
        from: usize,
    },
    Cuts {
        path: String,
        from: usize,
    },
    /// Swaps and copies inside a file.
    Pages {
        path: String,
        pages: u64,
    },
    /// Pages copied from another file of the same kind.
    Between {
        from: String,
        to: String,
        pages: u64,
    },
    Some(Vec<Damage>),
}

/// Every damage to every base.
pub(crate) struct Plan {
    strata: Vec<Stratum>,
    /// Number of the first case of each stratum.
    starts: Vec<u64>,
    seed: u64,
    size: u64,
}

/// Number of bytes at the beginning of a file that are a header in every kind of file.
const HEADER: usize = 128;

fn kind_of(path: &str) -> &str {
    path.rsplit(['.', '/']).next().unwrap_or(path)
}

impl Plan {
    pub(crate) fn new(bases: &[Base], seed: u64, size: u64) -> Self {
        let mut plan = Self { strata: Vec::new(), starts: Vec::new(), seed, size };
        for at in 0..bases.len() {
            plan.of_files(at, &bases[at]);
            plan.of_life(at, &bases[at]);
            plan.of_others(at, bases);
        }
        let mut start = 0;
        for stratum in &plan.strata {
            plan.starts.push(start);
            start += stratum.tried(size);
        }
        plan.starts.push(start);
        plan
    }

    fn add(&mut self, base: usize, kind: Kind, all: u64, few: u64) {
        if all > 0 {
            self.strata.push(Stratum { base, kind, all, few });
        }
    }

    /// Adds damages of bytes, lengths and pages.
    fn of_files(&mut self, at: usize, base: &Base) {
        for (path, bytes) in &base.image.files {
            let len = bytes.len();
            let path = || path.clone();
            // Both slots of `super` are headers.
            let headers: &[usize] = if path() == "super" { &[0, PAGE] } else { &[0] };
            for &from in headers {
                let header = HEADER.min(len - from) as u64;
                self.add(at, Kind::Bytes { path: path(), from }, header * 10, header);
            }
            // Every page of the file; pages with content are sampled more often.
            for from in (0..len).step_by(PAGE) {
                let page = &bytes[from..len.min(from + PAGE)];
                let used = page.iter().any(|&byte| byte != 0);
                let used_to = page.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
                let few = match kind_of(&path()) {
                    "control" => 1,
                    "log" => 48,
                    _ => 12,
                };
                self.add(
                    at,
                    Kind::Bytes { path: path(), from },
                    used_to as u64 * 10,
                    if used { few } else { 0 },
                );
                let empty = (page.len() - used_to) as u64 * 10;
                self.add(at, Kind::Bytes { path: path(), from: from + used_to }, empty, 1);
            }
            self.add(at, Kind::Cuts { path: path(), from: 0 }, HEADER.min(len) as u64, 8);
            self.add(at, Kind::Cuts { path: path(), from: 0 }, len as u64, 24);
            let pages = len.div_ceil(PAGE) as u64;
            self.add(at, Kind::Pages { path: path(), pages }, pages * pages.saturating_sub(1) * 3 / 2, 8);
            for other in base.image.files.keys().filter(|other| kind_of(other) == kind_of(&path())) {
                let theirs = base.image.files[other].len().div_ceil(PAGE) as u64;
                if *other != path() {
                    let kind = Kind::Between { from: other.clone(), to: path(), pages };
                    self.add(at, kind, pages * theirs, 2);
                }
            }
            let longer: Vec<_> = [1, 8, 4095, 4096, 65_536, 1 << 20]
                .into_iter()
                .flat_map(|by| [true, false].map(|zeros| Damage::Longer { path: path(), by, zeros }))
                .collect();
            self.add_all(at, longer, 2);
        }
    }

    fn add_all(&mut self, at: usize, damages: Vec<Damage>, few: u64) {
        self.add(at, Kind::Some(damages.clone()), damages.len() as u64, few);
    }

    /// Adds files and folders as they were earlier in the store's history.
    fn of_life(&mut self, at: usize, base: &Base) {
        let mut paths: Vec<&String> = base.history.iter().flat_map(|image| image.files.keys()).collect();
        paths.sort();
        paths.dedup();
        for path in paths {
            let mut known = base.image.files.get(path);
            let mut older = Vec::new();
            for (when, image) in base.history.iter().enumerate().rev() {
                let bytes = image.files.get(path);
                if let Some(bytes) = bytes.filter(|&bytes| known != Some(bytes)) {
                    older.push(Damage::Older { path: path.clone(), when, bytes: Arc::clone(bytes) });
                    known = Some(bytes);
                }
            }
            let few = older.len() as u64;
            self.add_all(at, older, few);
        }
        let folders: Vec<&String> = base.image.folders.iter().collect();
        for path in folders {
            let inside = format!("{path}/");
            let of = |image: &Image| {
                let files = image.files.iter().filter(|(name, _)| name.starts_with(&inside));
                files.map(|(name, bytes)| (name.clone(), bytes.clone())).collect::<Vec<_>>()
            };
            let mut known = of(&base.image);
            let mut older = vec![Damage::NoFolder { path: path.clone() }];
            for (when, image) in base.history.iter().enumerate().rev() {
                let files = of(image);
                if files != known && image.folders.contains(path) {
                    let image = Arc::new(image.clone());
                    older.push(Damage::OlderFolder { path: path.clone(), when, image });
                    known = files;
                }
            }
            // CI tries all of them. Only an older copy of the whole store is a valid store, an
            // older copy of a folder is not.
            let few = older.len() as u64;
            self.add_all(at, older, few);
        }
    }

    /// Adds missing files, files with a wrong name, and files of other stores.
    fn of_others(&mut self, at: usize, bases: &[Base]) {
        let files = &bases[at].image.files;
        let missing: Vec<_> = files.keys().map(|path| Damage::Missing { path: path.clone() }).collect();
        let few = missing.len() as u64;
        self.add_all(at, missing, few);
        for (path, bytes) in files {
            let pairs = |same: bool| {
                let others = files.iter().filter(move |(other, theirs)| {
                    *other > path && *theirs != bytes && (kind_of(other) == kind_of(path)) == same
                });
                let renamed =
                    others.map(|(other, _)| Damage::Renamed { paths: [path.clone(), other.clone()] });
                renamed.collect::<Vec<_>>()
            };
            let (same, other) = (pairs(true), pairs(false));
            let few = same.len() as u64;
            self.add_all(at, same, few);
            self.add_all(at, other, 2);
            let foreign: Vec<_> = bases
                .iter()
                .filter(|base| base.name != bases[at].name)
                .filter_map(|base| Some((base.name, base.image.files.get(path)?)))
                .map(|(of, bytes)| Damage::Foreign { path: path.clone(), of, bytes: Arc::clone(bytes) })
                .collect();
            self.add_all(at, foreign, 2);
        }
    }

    /// Returns the number of cases that are tried.
    pub(crate) fn len(&self) -> u64 {
        *self.starts.last().expect("never empty")
    }

    /// Returns the number of all damages.
    pub(crate) fn all(&self) -> u64 {
        self.strata.iter().map(|stratum| stratum.all).sum()
    }

    /// Returns the base and the damage of a case.
    pub(crate) fn case(&self, number: u64) -> (usize, Damage) {
        let at = self.starts.partition_point(|&start| start <= number) - 1;
        let stratum = &self.strata[at];
        let place = number - self.starts[at];
        let index = pick(place, stratum.all, self.seed ^ (at as u64) << 32);
        (stratum.base, stratum.kind.damage(index))
    }

    /// Returns the size, as a multiple of that in CI, at which every case is tried.
    pub(crate) fn largest(&self) -> u64 {
        self.strata.iter().map(|stratum| stratum.all.div_ceil(stratum.few.max(1))).max().unwrap_or(1)
    }

    /// Returns the size of this plan.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }
}

impl Stratum {
    fn tried(&self, size: u64) -> u64 {
        self.all.min(self.few.saturating_mul(size))
    }
}

/// Returns the number at `place` in a permutation of the numbers below `all` that depends on a
/// seed.
pub(crate) fn pick(place: u64, all: u64, seed: u64) -> u64 {
    let mut random = Random(seed);
    let shift = random.below(all);
    let gcd = |mut a: u64, mut b: u64| {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let step = (0..).map(|_| 1 + random.below(all)).find(|&step| gcd(step, all) == 1).unwrap_or(1);
    ((u128::from(place) * u128::from(step) + u128::from(shift)) % u128::from(all)) as u64
}

impl Kind {
    fn damage(&self, index: u64) -> Damage {
        let at = index as usize;
        match self {
            Self::Bytes { path, from } => {
                Damage::Byte { path: path.clone(), at: from + at / 10, variant: index % 10 }
            }
            Self::Cuts { path, from } => Damage::Cut { path: path.clone(), len: from + at },
            Self::Pages { path, pages } => {
                let (a, b) = ((index / (pages - 1)) as usize, (index % (pages - 1)) as usize);
                let copies = (pages * (pages - 1)) as usize;
                if at < copies {
                    // Each page copied to each other page.
                    let from = b + usize::from(b >= a);
                    Damage::Copy { from: (path.clone(), from), to: (path.clone(), a) }
                } else {
                    let mut left = at - copies;
                    let mut first = 0;
                    while left >= *pages as usize - 1 - first {
                        left -= *pages as usize - 1 - first;
                        first += 1;
                    }
                    Damage::Swap { path: path.clone(), pages: [first, first + 1 + left] }
                }
            }
            Self::Between { from, to, pages } => Damage::Copy {
                from: (from.clone(), (index / pages) as usize),
                to: (to.clone(), (index % pages) as usize),
            },
            Self::Some(damages) => damages[at].clone(),
        }
    }
}
