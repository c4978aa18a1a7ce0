//! Samples, and the statistics that are reported.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// The unit of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    Nanoseconds,
    PerSecond,
    Bytes,
    Count,
}

/// The figures of a contender, or of a contender and a point on the axis.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    values: Vec<f64>,
    ratios: Vec<f64>,
}

impl Samples {
    pub fn add(&mut self, value: f64) {
        self.values.push(value);
    }

    /// Adds a value with the floor of the same round.
    pub fn add_over(&mut self, value: f64, floor: f64) {
        self.values.push(value);
        self.ratios.push(value / floor);
    }

    /// Adds a value that is better if it is higher, with the floor of the same round.
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

/// A row of a table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// Name of the contender or the floor.
    #[serde(rename = "who")]
    pub label: String,
    /// Position on the axis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub x: Option<usize>,
    /// `None` if there is no figure. In this case, `note` states the reason.
    pub median: Option<f64>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub samples: usize,
    /// Median of the ratios to the floor of the same round.
    pub ratio: Option<f64>,
    /// The largest ratio that `--check` accepts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// The largest median that `--check` accepts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Row {
    pub fn new(label: impl Into<String>, samples: &Samples) -> Self {
        let of = |pick: fn(f64, f64) -> f64| samples.values.iter().copied().reduce(pick);
        Self {
            label: label.into(),
            x: None,
            median: (!samples.values.is_empty()).then(|| samples.median()),
            min: of(f64::min),
            max: of(f64::max),
            samples: samples.values.len(),
            ratio: (!samples.ratios.is_empty()).then(|| median(&samples.ratios)),
            limit: None,
            most: None,
            note: None,
        }
    }

    /// Creates a row without a figure, with the reason.
    pub fn without(label: impl Into<String>, note: impl Into<String>) -> Self {
        Self {
            note: Some(note.into()),
            ..Self::new(label, &Samples::default())
        }
    }

    pub fn at(self, x: usize) -> Self {
        Self { x: Some(x), ..self }
    }

    pub fn limited(self, limit: Option<f64>) -> Self {
        Self { limit, ..self }
    }

    pub fn at_most(self, most: usize) -> Self {
        Self {
            most: Some(most),
            ..self
        }
    }

    pub fn noted(self, note: impl Into<String>) -> Self {
        Self {
            note: Some(note.into()),
            ..self
        }
    }
}

/// A table and its plot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measure {
    /// Name in files.
    pub id: Cow<'static, str>,
    pub title: Cow<'static, str>,
    pub unit: Unit,
    /// The floor of the ratios, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor: Option<Cow<'static, str>>,
    /// The axis, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub axis: Option<Cow<'static, str>>,
    pub rows: Vec<Row>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratio_is_computed_within_each_round() {
        let mut samples = Samples::default();
        // The machine becomes ten times slower during the run. That changes no ratio.
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
    fn row_without_samples_has_no_figure() {
        let row = Row::without("x", "never");
        assert_eq!(
            (row.median, row.min, row.ratio, row.samples),
            (None, None, None, 0)
        );
    }
}
