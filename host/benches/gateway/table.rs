//! Figures beside their goals, as text and as JSON.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::goals::{Figure, GOALS, Goal};
use crate::machine::Machine;

/// The figures measured so far.
#[derive(Default)]
pub(crate) struct Report {
    figures: BTreeMap<Figure, Measured>,
    reasons: BTreeMap<&'static str, String>,
    notes: Vec<String>,
}

struct Measured {
    value: f64,
    note: String,
}

/// A figure compared with its goal.
enum Verdict {
    Stretch,
    Goal,
    Missed,
    /// There is no goal for this figure.
    NoGoal,
    /// The figure serves for comparison.
    Shown,
}

impl Report {
    /// Adds a figure, with a short note on its components.
    pub(crate) fn add(&mut self, figure: Figure, value: f64, note: impl Into<String>) {
        self.figures.insert(figure, Measured { value, note: note.into() });
    }

    /// Records why the figures of a goal are missing.
    pub(crate) fn give_up(&mut self, id: &'static str, reason: impl Into<String>) {
        self.reasons.insert(id, reason.into());
    }

    /// Adds a note below the table.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Returns whether any figure missed its goal.
    pub(crate) fn has_missed(&self) -> bool {
        GOALS.iter().any(|goal| {
            self.figures.get(&goal.figure).is_some_and(|it| matches!(verdict(goal, it.value), Verdict::Missed))
        })
    }

    /// Prints the table of the selected goals.
    pub(crate) fn print(
        &self,
        machine: &Machine,
        asks_for: impl Fn(&str) -> bool,
        baseline: Option<&Path>,
    ) -> Result<()> {
        let before = baseline.map(read_baseline).transpose()?;
        println!();
        let last = if before.is_some() { "before    now/before" } else { "" };
        println!(
            "{:<4} {:<45} {:>9} {:>9} {:>7} {:<6}  {:<13} {last}",
            "goal", "what", "figure", "goal", "stretch", "unit", "verdict"
        );
        for goal in GOALS.iter().filter(|it| asks_for(it.id)) {
            let limits = [goal.goal, goal.stretch].map(|it| it.map_or_else(|| "-".to_owned(), number));
            let figure = self.figures.get(&goal.figure);
            let (shown, result) = match figure {
                Some(it) => (number(it.value), text(&verdict(goal, it.value)).to_owned()),
                None => ("-".to_owned(), format!("not measured: {}", self.reason(goal))),
            };
            let mut line = format!(
                "{:<4} {:<45} {shown:>9} {:>9} {:>7} {:<6}  {result:<13}",
                goal.id, goal.what, limits[0], limits[1], goal.unit
            );
            if let (Some(before), Some(now)) = (&before, figure)
                && let Some(then) = before.get(&key(goal))
            {
                line.push_str(&format!(
                    " {:<9} {}",
                    number(*then),
                    if *then == 0.0 { "-".to_owned() } else { format!("{:.2}", now.value / then) }
                ));
            }
            println!("{}", line.trim_end());
        }
        println!();
        for goal in GOALS {
            if let Some(Measured { note, .. }) = self.figures.get(&goal.figure).filter(|it| !it.note.is_empty()) {
                println!("{:<4} {}: {note}", goal.id, goal.what);
            }
        }
        for note in &self.notes {
            println!("     {note}");
        }
        println!("\nmachine: {machine}");
        Ok(())
    }

    /// Writes everything as JSON.
    pub(crate) fn write(&self, path: &Path, machine: &Machine, binary: &Path) -> Result<()> {
        let rows: Vec<Value> = GOALS
            .iter()
            .map(|goal| {
                let measured = self.figures.get(&goal.figure);
                json!({
                    "id": goal.id,
                    "what": goal.what,
                    "unit": goal.unit,
                    "goal": goal.goal,
                    "stretch": goal.stretch,
                    "figure": measured.map(|it| it.value),
                    "verdict": measured.map_or("not measured", |it| text(&verdict(goal, it.value))),
                    "note": measured.map_or_else(|| self.reason(goal), |it| it.note.clone()),
                })
            })
            .collect();
        let document = json!({
            "program": "yardarm benches/gateway",
            "binary": binary,
            "machine": machine.json(),
            "figures": rows,
            "notes": self.notes,
        });
        std::fs::write(path, format!("{document:#}\n"))
            .with_context(|| format!("`{}` cannot be written; give `--json` another path", path.display()))
    }

    fn reason(&self, goal: &Goal) -> String {
        self.reasons.get(goal.id).cloned().unwrap_or_else(|| "not selected".to_owned())
    }
}

fn verdict(goal: &Goal, value: f64) -> Verdict {
    let within = |limit: Option<f64>| limit.is_some_and(|it| value <= it);
    match (within(goal.goal), within(goal.stretch)) {
        (_, true) => Verdict::Stretch,
        (true, false) => Verdict::Goal,
        (false, false) if goal.goal.is_some() => Verdict::Missed,
        (false, false) if goal.stretch.is_some() => Verdict::NoGoal,
        (false, false) => Verdict::Shown,
    }
}

fn text(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Stretch => "ok, stretch",
        Verdict::Goal => "ok",
        Verdict::Missed => "MISSED",
        Verdict::NoGoal => "above stretch",
        Verdict::Shown => "-",
    }
}

fn number(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e6 {
        format!("{value:.0}")
    } else if value.abs() < 10.0 {
        format!("{value:.3}")
    } else {
        format!("{value:.1}")
    }
}

fn key(goal: &Goal) -> String {
    format!("{} {}", goal.id, goal.what)
}

fn read_baseline(path: &Path) -> Result<BTreeMap<String, f64>> {
    let read = || -> Result<Value> { Ok(serde_json::from_slice(&std::fs::read(path)?)?) };
    let document = read().with_context(|| format!("`{}` is not a file that `--json` wrote", path.display()))?;
    let rows = document["figures"].as_array().cloned().unwrap_or_default();
    let named =
        |row: &Value| Some((format!("{} {}", row["id"].as_str()?, row["what"].as_str()?), row["figure"].as_f64()?));
    Ok(rows.iter().filter_map(named).collect())
}
