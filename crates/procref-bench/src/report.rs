//! Tables and JSON.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::contender::Contender;
use crate::error::Result;
use crate::results::{Facts, Results};
use crate::stats::{Measure, Row, Unit};

/// Returns the measures of an earlier run.
pub fn earlier(out: &Path) -> Result<Vec<Measure>> {
    match fs::read(out.join("results.json")) {
        Ok(text) => Ok(serde_json::from_slice::<Results>(&text)?.measures),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

pub fn write(results: &Results, out: &Path) -> Result<()> {
    fs::create_dir_all(out)?;
    fs::write(
        out.join("results.json"),
        serde_json::to_string_pretty(results)? + "\n",
    )?;
    Ok(fs::write(out.join("table.md"), table(results))?)
}

pub fn print(results: &Results) {
    print!("{}", table(results));
}

/// Returns an error if a ratio or a count is above its limit.
pub fn check(results: &Results) -> Result<()> {
    let mut above = Vec::new();
    for measure in &results.measures {
        for row in &measure.rows {
            let most = row.most.map(|most| most as f64);
            let checks = [(row.ratio, row.limit), (row.median, most)];
            for (figure, limit) in checks {
                if let (Some(figure), Some(limit)) = (figure, limit) {
                    if figure > limit {
                        let (title, label) = (&measure.title, &row.label);
                        above.push(format!("{title}, {label}: {figure:.2}, limit {limit}"));
                    }
                }
            }
        }
    }
    if above.is_empty() {
        return Ok(());
    }
    Err(format!("above the limit: {}", above.join("; ")).into())
}

fn table(results: &Results) -> String {
    let mut out = String::new();
    let machine = &results.machine;
    let _ = writeln!(
        out,
        "{} processors ({}, {}), {} GiB, {}{}\n",
        machine.processors,
        machine.processor,
        machine.architecture,
        machine.memory_gib,
        machine.kernel,
        if results.quick {
            ". A quick run: its figures mean little."
        } else {
            ""
        }
    );
    facts(&mut out, &results.facts);
    for measure in &results.measures {
        section(&mut out, measure);
    }
    out
}

fn facts(out: &mut String, facts: &[(Contender, Facts)]) {
    let _ = writeln!(out, "### Behavior\n");
    let _ = writeln!(
        out,
        "| | services after a race of 16 | waits until ready | stops after the last client | \
         count is right after a client is killed | stops after the last client is killed | a waiter starts if the starter is killed |\n\
         |---|---|---|---|---|---|---|"
    );
    for (contender, facts) in facts {
        if let Err(reason) = &facts.works {
            let _ = writeln!(
                out,
                "| {} | not measured: {reason} | | | | | |",
                contender.title()
            );
            continue;
        }
        let text = |yes: bool| if yes { "yes" } else { "**no**" };
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} |",
            contender.title(),
            facts.starts_in_a_race,
            text(facts.waits_for_ready),
            text(facts.stops_after_last),
            text(facts.survives_a_killed_client),
            text(facts.stops_after_last_is_killed),
            facts.takes_over.map_or("the bus starts it", text),
        );
    }
    out.push('\n');
    for (contender, facts) in facts {
        for failure in &facts.failures {
            let _ = writeln!(out, "{}, error in a trial: {failure}\n", contender.title());
        }
    }
}

fn section(out: &mut String, measure: &Measure) {
    let _ = writeln!(out, "### {}\n", measure.title);
    if let Some(floor) = &measure.floor {
        let _ = writeln!(out, "Floor: {floor}.\n");
    }
    let x = |row: &Row| row.x.map_or(String::new(), |x| format!(" {x} |"));
    let axis = measure
        .axis
        .as_ref()
        .map_or(String::new(), |axis| format!(" {axis} |"));
    let line = if measure.axis.is_some() { "---:|" } else { "" };
    let _ = writeln!(
        out,
        "| |{axis} median | min | max | n | ratio | |\n|---|{line}---:|---:|---:|---:|---:|---|"
    );
    for row in &measure.rows {
        let figure = |value: Option<f64>| {
            value.map_or("–".to_owned(), |value| figure(value, measure.unit))
        };
        let _ = writeln!(
            out,
            "| {} |{} {} | {} | {} | {} | {} | {} |",
            row.label,
            x(row),
            figure(row.median),
            figure(row.min),
            figure(row.max),
            row.samples,
            row.ratio.map_or("–".to_owned(), ratio),
            row.note.as_deref().unwrap_or(""),
        );
    }
    out.push('\n');
}

fn ratio(ratio: f64) -> String {
    match ratio {
        ..10.0 => format!("{ratio:.2}"),
        10.0..100.0 => format!("{ratio:.1}"),
        _ => format!("{ratio:.0}"),
    }
}

/// Formats a figure with a suitable unit.
pub fn figure(value: f64, unit: Unit) -> String {
    let steps: &[(f64, &str)] = match unit {
        Unit::Nanoseconds => &[(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")],
        Unit::Bytes => &[(1048576.0, "MiB"), (1024.0, "KiB"), (1.0, "B")],
        Unit::PerSecond => &[(1e6, "M/s"), (1e3, "k/s"), (1.0, "/s")],
        Unit::Count => &[(1.0, "")],
    };
    let size = value.abs();
    let fits = steps.iter().find(|(step, _)| size >= *step);
    let (step, name) = fits.or(steps.last()).copied().unwrap_or((1.0, ""));
    let scaled = value / step;
    let digits = match scaled.abs() {
        _ if step == 1.0 => 0,
        ..10.0 => 2,
        10.0..100.0 => 1,
        _ => 0,
    };
    format!("{scaled:.digits$} {name}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figure_uses_the_largest_unit_that_fits() {
        assert_eq!(figure(999.4, Unit::Nanoseconds), "999 ns");
        assert_eq!(figure(1234.0, Unit::Nanoseconds), "1.23 µs");
        assert_eq!(figure(-45_600.0, Unit::Nanoseconds), "-45.6 µs");
        assert_eq!(figure(2048.0, Unit::Bytes), "2.00 KiB");
        assert_eq!(figure(12.0, Unit::Count), "12");
    }
}
