//! Samples, and what is told of them.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// What a figure is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    Nanoseconds,
    PerSecond,
    Bytes,
    Count,
}

/// Figures of one contender, of one point on the axis where there is one.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    values: Vec<f64>,
    ratios: Vec<f64>,
}

impl Samples {
    pub fn add(&mut self, value: f64) {
        self.values.push(value);
    }

    /// With the floor of the same round.
    pub fn add_over(&mut self, value: f64, floor: f64) {
        self.values.push(value);
        self.ratios.push(value / floor);
    }

    /// Of what is better the higher it is.
    pub fn add_under(&mut self, value: f64, floor: f64) {
        self.values.push(value);
        self.ratios.push(floor / value);
    }

    pub fn median(&self) -> f64 {
        median(&self.values)
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A line of a table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    pub who: String,
    /// Where it is on the axis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub x: Option<usize>,
    /// `None`: see `note`.
    pub median: Option<f64>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub samples: usize,
    /// Median of the ratios to the floor of the same round.
    pub ratio: Option<f64>,
    /// What `--check` demands of the ratio.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Row {
    pub fn new(who: impl Into<String>, samples: &Samples) -> Self {
        let of = |pick: fn(f64, f64) -> f64| samples.values.iter().copied().reduce(pick);
        Self {
            who: who.into(),
            x: None,
            median: (!samples.values.is_empty()).then(|| samples.median()),
            min: of(f64::min),
            max: of(f64::max),
            samples: samples.values.len(),
            ratio: (!samples.ratios.is_empty()).then(|| median(&samples.ratios)),
            limit: None,
            note: None,
        }
    }

    /// A contender that has no figure, and why.
    pub fn without(who: impl Into<String>, note: impl Into<String>) -> Self {
        Self {
            note: Some(note.into()),
            ..Self::new(who, &Samples::default())
        }
    }

    pub fn at(self, x: usize) -> Self {
        Self { x: Some(x), ..self }
    }

    pub fn limited(self, limit: Option<f64>) -> Self {
        Self { limit, ..self }
    }

    pub fn noted(self, note: impl Into<String>) -> Self {
        Self {
            note: Some(note.into()),
            ..self
        }
    }
}

/// One table, and one plot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measure {
    /// Its name in files.
    pub id: Cow<'static, str>,
    pub title: Cow<'static, str>,
    pub unit: Unit,
    /// What the ratios are to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor: Option<Cow<'static, str>>,
    /// What the axis is, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub axis: Option<Cow<'static, str>>,
    pub rows: Vec<Row>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_those_of_each_round() {
        let mut samples = Samples::default();
        // A machine that gets slower by ten in the middle of a run changes no ratio.
        for slowness in [1.0, 1.0, 10.0, 10.0, 10.0] {
            samples.add_over(3.0 * slowness, slowness);
        }
        let row = Row::new("x", &samples);
        assert_eq!(row.ratio, Some(3.0));
        assert_eq!(
            (row.median, row.min, row.max),
            (Some(30.0), Some(3.0), Some(30.0))
        );
    }

    #[test]
    fn what_was_not_measured_has_no_figure() {
        let row = Row::without("x", "never");
        assert_eq!(
            (row.median, row.min, row.ratio, row.samples),
            (None, None, None, 0)
        );
    }
}
