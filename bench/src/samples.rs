//! Quantiles of durations.

use hdrhistogram::Histogram;

/// Durations, kept to three significant figures.
#[derive(Debug)]
pub struct Samples(Histogram<u64>);

impl Samples {
    /// The samples, each in nanoseconds.
    pub fn of_nanos(nanos: impl IntoIterator<Item = u64>) -> anyhow::Result<Samples> {
        let mut histogram = Histogram::new(3)?;
        for sample in nanos {
            histogram.record(sample)?;
        }
        Ok(Samples(histogram))
    }

    /// The quantile, in nanoseconds.
    pub fn quantile(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64
    }
}

/// The middle one; of an even number, the mean of the two in the middle. Nothing of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get((sorted.len() - 1) / 2)?;
    Some((lower + upper) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_near_and_the_median_is_exact() {
        let samples = Samples::of_nanos((1..=1000).map(|n| n * 1000)).unwrap();
        let near = |quantile, wanted: f64| (samples.quantile(quantile) / wanted - 1.0).abs() < 0.002;
        assert!(near(0.5, 500_000.0) && near(0.99, 990_000.0));
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0]), Some(2.5));
    }
}
