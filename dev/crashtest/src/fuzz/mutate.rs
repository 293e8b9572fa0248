//! Random mutations of inputs.

use pongo_sim::Random;

/// Returns a mutation of `input`: some bytes changed, inserted, removed, or copied from `other`.
#[must_use]
pub fn mutate(input: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut new = input.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(new.len() as u64 + 1) as usize;
        match random.below(7) {
            0 => new.truncate(at),
            1 => new.insert(at, random.next() as u8),
            2 => {
                let len = 1 + random.below(12) as usize;
                let fresh: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
                new.splice(at..at, fresh);
            }
            3 => {
                let from = random.below(other.len() as u64 + 1) as usize;
                let len = random.below(24) as usize;
                let part: Vec<u8> = other[from..].iter().take(len).copied().collect();
                new.splice(at..at, part);
            }
            4 if at < new.len() => new[at] ^= 1 << random.below(8),
            5 if at < new.len() => new[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5) as usize],
            _ if at < new.len() => new[at] = random.next() as u8,
            _ => new.push(random.next() as u8),
        }
    }
    new.truncate(4096);
    new
}
