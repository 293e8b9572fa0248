//! Statistics of the rounds: medians, the spread of the ratios, and the verdict.

use crate::measure::median;

/// Result of the comparison of a load with the base.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Better,
    /// No difference that can be distinguished from noise.
    Within,
    Worse,
}

/// Relative differences of time up to this are ignored: identical code, moved by a few bytes, can
/// differ by this much.
pub(crate) const LEAST_TIME: f64 = 0.01;

/// Relative differences of instructions up to this are ignored. They hardly vary by chance, but
/// hash maps have random seeds.
pub(crate) const LEAST_INSTRUCTIONS: f64 = 0.02;

/// Divisor of the number of ratios that are excluded from the spread at each end, because another
/// program may have disturbed the round.
const ONE_OF: usize = 9;

/// Nanoseconds or instructions of an operation by both programs, by round.
#[derive(Clone, Default, Debug)]
pub(crate) struct Rounds {
    first: Vec<f64>,
    base: Vec<f64>,
}

/// Summary of the rounds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Summary {
    /// Median of the first program.
    pub(crate) first: f64,
    /// Median of the base.
    pub(crate) base: f64,
    /// Median of the rounds' ratios, first / base: above 1, the first takes longer. Both programs
    /// of a round run on the machine in the same state, so this ratio excludes its drift, unlike
    /// the ratio of the medians.
    pub(crate) ratio: f64,
    /// The spread: the lowest and the highest of the rounds' ratios, without one in nine at each
    /// end.
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Rounds {
    /// Adds one round.
    pub(crate) fn add(&mut self, first: f64, base: f64) {
        self.first.push(first);
        self.base.push(base);
    }

    /// Computes medians and spread. ([`median`] sorts its argument.)
    ///
    /// # Panics
    /// Panics if there is no round.
    pub(crate) fn summary(&self) -> Summary {
        let first = median(&mut self.first.clone());
        let base = median(&mut self.base.clone());
        let mut ratios: Vec<f64> =
            self.first.iter().zip(&self.base).map(|(first, base)| first / base).collect();
        let ratio = median(&mut ratios);
        let left_out = ratios.len() / ONE_OF;
        let kept = &ratios[left_out..ratios.len() - left_out];
        Summary { first, base, ratio, low: kept[0], high: kept[kept.len() - 1] }
    }
}

impl Summary {
    /// Judges the difference: it counts if the whole spread is on one side of 1 and the ratio
    /// differs from 1 by more than `least`.
    pub(crate) fn verdict(&self, least: f64) -> Verdict {
        if self.low > 1.0 && self.ratio > 1.0 + least {
            Verdict::Worse
        } else if self.high < 1.0 && self.ratio < 1.0 - least {
            Verdict::Better
        } else {
            Verdict::Within
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(ratios: &[f64]) -> Rounds {
        let mut rounds = Rounds::default();
        // The machine drifts by a factor from round to round, equally for both programs.
        ratios.iter().enumerate().for_each(|(nth, ratio)| {
            let drift = 1.0 + (nth % 3) as f64;
            rounds.add(100.0 * ratio * drift, 100.0 * drift);
        });
        rounds
    }

    #[test]
    fn medians_and_spread_come_from_rounds() {
        let mut rounds = Rounds::default();
        for (first, base) in [(10.0, 10.0), (30.0, 20.0), (22.0, 11.0)] {
            rounds.add(first, base);
        }
        let expected = Summary { first: 22.0, base: 11.0, ratio: 1.5, low: 1.0, high: 2.0 };
        assert_eq!(rounds.summary(), expected);
    }

    #[test]
    fn spread_excludes_outliers() {
        let nine = [0.1, 0.98, 0.99, 1.0, 1.0, 1.0, 1.01, 1.02, 9.0];
        let summary = rounds(&nine).summary();
        assert_eq!((summary.low, summary.high), (0.98, 1.02));
        // With eight rounds, no ratio is left out.
        let summary = rounds(&nine[..8]).summary();
        assert_eq!((summary.low, summary.high), (0.1, 1.02));
        let summary = rounds(&[nine, nine].concat()).summary();
        assert_eq!((summary.low, summary.high), (0.98, 1.02));
    }

    #[test]
    fn changes_must_exceed_the_spread() {
        let verdict = |ratios: &[f64]| rounds(ratios).summary().verdict(LEAST_TIME);
        let slower = [1.05, 1.06, 1.07, 1.08, 1.09, 1.1, 1.11, 1.12, 1.13];
        assert_eq!(verdict(&slower), Verdict::Worse);
        assert_eq!(verdict(&slower.map(|ratio| 1.0 / ratio)), Verdict::Better);
        assert_eq!(verdict(&slower.map(|ratio| ratio - 0.07)), Verdict::Within);
        // One outlier in nine rounds is ignored, two are not.
        let mut disturbed = slower;
        disturbed[0] = 0.2;
        assert_eq!(verdict(&disturbed), Verdict::Worse);
        disturbed[1] = 0.2;
        assert_eq!(verdict(&disturbed), Verdict::Within);
    }

    #[test]
    fn small_differences_are_no_change() {
        let verdict = |ratio: f64| rounds(&[ratio; 9]).summary().verdict(LEAST_TIME);
        assert_eq!([1.0, 1.009, 0.991].map(verdict), [Verdict::Within; 3]);
        assert_eq!([1.011, 0.989].map(verdict), [Verdict::Worse, Verdict::Better]);
        let verdict = |ratio: f64| rounds(&[ratio; 3]).summary().verdict(LEAST_INSTRUCTIONS);
        assert_eq!([1.0, 1.019, 0.981].map(verdict), [Verdict::Within; 3]);
        assert_eq!([1.021, 0.979].map(verdict), [Verdict::Worse, Verdict::Better]);
    }
}
