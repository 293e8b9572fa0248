//! Random transactions compared with a map.

use pongo::prelude::*;
use pongo::{CommitError, WriteError};
use pongo_test_support::folder;

use crate::people::{
    MAILS, Map, Of, Outcome, Person, Random, SCORES, SEATS, TEAMS, check, check_table, conflicting_id,
    person, verify,
};
use crate::{open, options};

const IDS: u64 = 30;

struct Run {
    store: Store,
    map: Map,
    pinned: Vec<(Snapshot, Map)>,
    rng: Random,
    version: u64,
    refused: u32,
    refused_at_commit: u32,
    rolled_back: u32,
}

impl Run {
    fn new(store: Store, rng: Random) -> Self {
        let (map, pinned) = (Map::new(), Vec::new());
        Self { store, map, pinned, rng, version: 0, refused: 0, refused_at_commit: 0, rolled_back: 0 }
    }

    /// Draws a person whose unique values are often absent, or often those that the person has.
    fn draw(&mut self, map: &Map) -> (u64, Of) {
        self.version += 1;
        let rng = &mut self.rng;
        let id = rng.below(IDS);
        let mut of = Of {
            mail: (rng.below(3) != 0).then(|| rng.below(MAILS)),
            score: (rng.below(3) == 0).then(|| rng.below(SCORES.len() as u64) as usize),
            seat: (rng.below(2) == 0).then(|| rng.below(u64::from(SEATS)) as u32),
            team: rng.below(u64::from(TEAMS)) as u16,
            version: self.version,
        };
        if let Some(known) = map.get(&id) {
            if rng.below(2) == 0 {
                of.mail = known.mail;
            }
            if rng.below(2) == 0 {
                (of.seat, of.team) = (known.seat, known.team);
            }
            if rng.below(2) == 0 {
                of.score = known.score;
            }
        }
        (id, of)
    }

    /// Compares the result of a change with the map. Returns whether the change was made.
    fn note(&mut self, result: Result<(), WriteError>, map: &Map, id: u64, of: Of) -> Outcome<bool> {
        let other = conflicting_id(map, id, of);
        match result {
            Ok(()) => assert_eq!(other, None, "{id}: {of:?} was taken"),
            Err(WriteError::UniqueViolation { existing_key, .. }) => {
                assert!(other.is_some(), "{id}: {of:?} was refused for {existing_key}");
                let known = existing_key.strip_prefix("id = ").ok_or("a key in words")?.parse()?;
                assert_eq!(conflicting_id(&[(known, map[&known])].into(), id, of), Some(known));
                self.refused += 1;
            }
            Err(other) => return Err(other.into()),
        }
        Ok(other.is_none())
    }

    fn change(&mut self, tx: &WriteTransaction, map: &mut Map) -> Outcome {
        let (id, of) = self.draw(map);
        let mut people = tx.table::<Person>()?;
        match self.rng.below(8) {
            0..3 => {
                let result = people.put(&person(id, of)).map(drop);
                if self.note(result, map, id, of)? {
                    map.insert(id, of);
                }
            }
            3 => match people.insert(&person(id, of)) {
                Err(WriteError::KeyExists { .. }) => assert!(map.contains_key(&id)),
                result => {
                    if self.note(result, map, id, of)? {
                        assert_eq!(map.insert(id, of), None);
                    }
                }
            },
            4..6 => match people.update(id, |known| *known = person(id, of)) {
                Ok(None) => assert!(!map.contains_key(&id)),
                result => {
                    if self.note(result.map(drop), map, id, of)? {
                        assert!(map.insert(id, of).is_some());
                    }
                }
            },
            _ => assert_eq!(people.delete(id)?, map.remove(&id).is_some()),
        }
        Ok(())
    }

    /// Loads random rows in bulk. Returns `false` if two rows then have the same value.
    fn load(&mut self, tx: &WriteTransaction, map: &mut Map) -> Outcome<bool> {
        let any = self.rng.below(6) == 0;
        let mut rows = Vec::new();
        for _ in 0..self.rng.below(20) {
            let (id, of) = self.draw(map);
            if any || conflicting_id(map, id, of).is_none() {
                map.insert(id, of);
                rows.push(person(id, of));
            }
        }
        // Two people exchange their values.
        let two: Vec<(u64, Of)> = map.iter().take(2).map(|(&id, &of)| (id, of)).collect();
        if let (&[(a, of_a), (b, of_b)], 0) = (&two[..], self.rng.below(3)) {
            map.extend([(a, of_b), (b, of_a)]);
            rows.extend([person(a, of_b), person(b, of_a)]);
        }
        if self.rng.below(2) == 0 {
            tx.table::<Person>()?.alloc_slice(rows.len())?.copy_from_slice(&rows);
        } else {
            tx.table::<Person>()?.extend(rows)?;
        }
        Ok(map.iter().all(|(&id, &of)| conflicting_id(map, id, of).is_none()))
    }

    fn transaction(&mut self) -> Outcome {
        let mut tx = self.store.begin_write_with(Durability::Relaxed)?;
        let mut map = self.map.clone();
        let mut savepoint: Option<(Savepoint, Map)> = None;
        let mut fits = true;
        for _ in 0..self.rng.below(14) {
            match self.rng.below(10) {
                0 => {
                    fits = self.load(&tx, &mut map)?;
                    if !fits {
                        break;
                    }
                }
                1 => savepoint = Some((tx.savepoint()?, map.clone())),
                2 => {
                    if let Some((savepoint, known)) = &savepoint {
                        tx.rollback_to(savepoint)?;
                        map.clone_from(known);
                        self.rolled_back += 1;
                    }
                }
                _ => self.change(&tx, &mut map)?,
            }
        }
        if !fits
            && self.rng.below(2) == 0
            && let Some((savepoint, known)) = &savepoint
        {
            tx.rollback_to(savepoint)?;
            map.clone_from(known);
            fits = true;
        }
        if !fits {
            let error = tx.commit().expect_err("two rows have one value");
            assert!(matches!(error, CommitError::Refused(WriteError::UniqueViolation { .. })), "{error:?}");
            self.refused_at_commit += 1;
            return Ok(());
        }
        if self.rng.below(4) == 0 {
            let people = tx.table::<Person>()?;
            let ids = people.by(Person::MAIL)?.all()?.map(|row| Ok(row?.id));
            let ids = ids.collect::<Result<std::collections::BTreeSet<_>, pongo::ReadError>>()?;
            assert_eq!(ids, map.keys().copied().collect());
            for (&id, of) in &map {
                if let Some(number) = of.mail {
                    let found = people.by(Person::MAIL)?.eq(crate::people::mail(number))?.next();
                    assert_eq!(found.transpose()?.map(|row| row.id), Some(id));
                }
            }
            let absent = people.by(Person::MAIL)?.eq(Maybe::none())?.count_rows()?;
            assert_eq!(absent, map.values().filter(|of| of.mail.is_none()).count() as u64);
        }
        if self.rng.below(6) == 0 {
            tx.abort();
        } else {
            tx.commit()?;
            self.map = map;
        }
        Ok(())
    }

    fn check(&self) -> Outcome {
        check(&self.store.begin_read()?, &self.map)?;
        for (snapshot, map) in &self.pinned {
            check(snapshot, map)?;
        }
        Ok(())
    }

    fn step(&mut self) -> Outcome {
        match self.rng.below(12) {
            0 => self.pinned.push((self.store.begin_read()?, self.map.clone())),
            1 if !self.pinned.is_empty() => {
                let place = self.rng.below(self.pinned.len() as u64) as usize;
                self.pinned.swap_remove(place);
            }
            2 if self.rng.below(4) == 0 => self.store.rebuild_index::<Person>()?,
            3 if self.rng.below(4) == 0 => verify(&self.store)?,
            _ => self.transaction()?,
        }
        if self.pinned.len() > 3 {
            self.pinned.remove(0);
        }
        self.check()
    }
}

#[test]
fn in_memory() -> Outcome {
    let mut run = Run::new(options().in_memory()?, Random::seeded("maybe_in_memory"));
    for _ in 0..800 {
        run.step()?;
    }
    let Run { refused, refused_at_commit, rolled_back, .. } = run;
    assert!(
        refused > 100 && refused_at_commit > 10 && rolled_back > 50,
        "{refused} {refused_at_commit} {rolled_back}"
    );
    verify(&run.store)
}

/// The store is closed and opened, copied without being closed, and opened after its hash folder,
/// or a part of it, was deleted.
#[test]
fn on_disk() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = |round: u32| folder.path().join(format!("{round}.pongo"));
    let mut run = Run::new(open(&path(0))?, Random::seeded("maybe_on_disk"));
    for round in 0..15 {
        for _ in 0..25 {
            run.step()?;
        }
        run.pinned.clear();
        let (from, to) = (path(round), path(round + 1));
        if round % 5 == 4 {
            // As after a power cut: nothing was closed, and the index is rebuilt.
            run.store.begin_write()?.commit()?;
            let tx = run.store.begin_write_with(Durability::Sync)?;
            let (id, of) = (IDS + 1, Of { version: u64::from(round), ..Of::default() });
            tx.table::<Person>()?.put(&person(id, of))?;
            tx.commit()?;
            run.map.insert(id, of);
            folder::copy(&from, &to)?;
        }
        let Run { store, map, rng, version, .. } = run;
        if round % 5 == 4 {
            drop(store);
        } else {
            store.close()?;
            std::fs::rename(&from, &to)?;
        }
        match round % 5 {
            1 => std::fs::remove_dir_all(to.join("hash"))?,
            2 => {
                let mut removed = 0;
                for entry in std::fs::read_dir(to.join("hash"))? {
                    let entry = entry?;
                    if entry.file_name().to_string_lossy().starts_with("people.u") {
                        std::fs::remove_dir_all(entry.path())?;
                        removed += 1;
                    }
                }
                assert_eq!(removed, 3);
            }
            3 => std::fs::remove_file(to.join("control"))?,
            _ => {}
        }
        run = Run { map, version, ..Run::new(open(&to)?, rng) };
        run.check()?;
        verify(&run.store)?;
        check_table(&run.store.begin_read()?.table::<Person>()?, &run.map)?;
    }
    Ok(())
}
