//! The results as data and as Markdown, next to what must be reached.

use crate::bench::idle::Idle;
use crate::bench::report::{header, line, row_of};
use serde::{Deserialize, Serialize};

/// How long something took, over and over, in milliseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Times {
    /// What.
    pub what: String,
    /// Half took less.
    pub median: f64,
    /// One in twenty took longer.
    pub p95: f64,
    /// The slowest.
    pub worst: f64,
    /// Bytes of the answer; 0: not counted.
    pub bytes: u64,
}

impl Times {
    /// Of what was measured, which must not be nothing.
    pub fn of(what: &str, milliseconds: &[f64], bytes: u64) -> Self {
        let mut sorted = milliseconds.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |part: f64| {
            let index = (sorted.len().saturating_sub(1)) as f64 * part;
            sorted.get(index.round() as usize).copied().unwrap_or(0.0)
        };
        Self {
            what: what.to_owned(),
            median: at(0.5),
            p95: at(0.95),
            worst: at(1.0),
            bytes,
        }
    }

    /// Of a line of the browser's script: `page: NAME`, a tab, numbers.
    pub fn read(line: &str) -> Option<Self> {
        let (what, numbers) = line.strip_prefix("page: ")?.split_once('\t')?;
        let numbers: Result<Vec<f64>, _> = numbers.split_whitespace().map(str::parse).collect();
        let numbers = numbers.ok().filter(|numbers| !numbers.is_empty())?;
        Some(Self::of(what, &numbers, 0))
    }

    /// In one line.
    pub fn text(&self) -> String {
        format!(
            "{}: {:.1} ms, p95 {:.1}, worst {:.1}",
            self.what, self.median, self.p95, self.worst
        )
    }
}

/// With so many volumes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Step {
    /// How many.
    pub volumes: usize,
    /// How fast they were made, eight requests at a time.
    pub created_per_second: f64,
    /// The nodes while nothing happens.
    pub idle: Idle,
    /// And while a browser shows the home page of the first one.
    pub open: Idle,
    /// Requests.
    pub answers: Vec<Times>,
    /// Pages in the browser.
    pub pages: Vec<Times>,
}

/// Everything of one run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Results {
    /// The machine.
    pub machine: Vec<(String, String)>,
    /// The nodes without volumes.
    pub empty: Idle,
    /// By volumes.
    pub steps: Vec<Step>,
}

/// What must be reached by the median: the name, volumes, milliseconds.
const GOALS: [(&str, usize, f64); 4] = [
    ("the home page is usable", 1000, 1000.0),
    ("the first 100 volumes", 10_000, 50.0),
    ("a scrape of the metrics", 1000, 100.0),
    ("a frame while it is scrolled", 10_000, 34.0),
];

/// What serving pages and history may cost an idle node, in MiB and in percent of a core.
const MEMORY_MIB_MAX: f64 = 50.0;
const CPU_PERCENT_MAX: f64 = 1.0;

/// All of it as Markdown.
pub fn markdown(results: &Results) -> String {
    let mut out = String::new();
    for (name, value) in &results.machine {
        line(&mut out, &format!("- {name}: {value}"));
    }
    line(&mut out, "");
    times(&mut out, results);
    line(&mut out, "");
    header(&mut out, &["nodes", "MiB resident", "percent of a core"]);
    let mut idle = |what: String, idle: &Idle| {
        let resident = format!("{:.0} ({:.0})", idle.resident_mib.0, idle.resident_mib.1);
        let cpu = format!("{:.2} ({:.2})", idle.cpu_percent.0, idle.cpu_percent.1);
        row_of(&mut out, &[what, resident, cpu]);
    };
    idle("no volumes".to_owned(), &results.empty);
    for step in &results.steps {
        idle(
            format!("{} volumes, nobody looks", step.volumes),
            &step.idle,
        );
        let open = format!("{} volumes, one home page is open", step.volumes);
        idle(open, &step.open);
    }
    line(&mut out, "");
    if let Some(step) = results.steps.first() {
        line(&mut out, &cost(&results.empty, step));
    }
    for step in &results.steps {
        let text = format!(
            "Up to {} volumes were made at {:.0} a second, eight requests at a time.",
            step.volumes, step.created_per_second
        );
        line(&mut out, &text);
    }
    out
}

/// What pages and history cost the node that needs most, against the nodes without volumes.
fn cost(empty: &Idle, step: &Step) -> String {
    let (_, resident) = step.open.resident_mib;
    let more = resident - empty.resident_mib.1;
    let (_, cpu) = step.open.cpu_percent;
    let met = |met: bool| if met { "met" } else { "missed" };
    format!(
        "With {} volumes and a home page open the node that shows it needs {more:.0} MiB more than one without volumes (must be at most \
         {MEMORY_MIB_MAX:.0}: {}), and {cpu:.2} % of a core in all (under {CPU_PERCENT_MAX:.0}: {}).\n",
        step.volumes,
        met(more <= MEMORY_MIB_MAX),
        met(cpu < CPU_PERCENT_MAX)
    )
}

fn times(out: &mut String, results: &Results) {
    header(
        out,
        &[
            "volumes",
            "what",
            "median ms",
            "p95",
            "worst",
            "KiB",
            "must be",
            "met",
        ],
    );
    for step in &results.steps {
        for one in step.answers.iter().chain(&step.pages) {
            let goal = GOALS
                .iter()
                .find(|goal| one.what == goal.0 && step.volumes == goal.1);
            let (must, met) = match goal {
                Some(&(_, _, most)) => {
                    let met = if one.median < most { "yes" } else { "no" };
                    (format!("under {most:.0}"), met.to_owned())
                }
                None => ("-".to_owned(), "-".to_owned()),
            };
            let size = match one.bytes {
                0 => "-".to_owned(),
                bytes => format!("{:.0}", bytes as f64 / 1024.0),
            };
            let number = |value: f64| format!("{value:.1}");
            row_of(
                out,
                &[
                    step.volumes.to_string(),
                    one.what.clone(),
                    number(one.median),
                    number(one.p95),
                    number(one.worst),
                    size,
                    must,
                    met,
                ],
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_browser_is_read() {
        let times = Times::read("page: the home page\t30.0 10.0 20.0").expect("it is one");
        assert_eq!(
            (times.what.as_str(), times.median, times.worst),
            ("the home page", 20.0, 30.0)
        );
        assert!(Times::read("page: nothing\t").is_none());
        assert!(Times::read("page: words\tten").is_none());
    }

    #[test]
    fn what_must_be_reached_is_judged_by_the_median() {
        let step = |volumes, median| Step {
            volumes,
            answers: vec![Times::of("the first 100 volumes", &[median], 4096)],
            ..Step::default()
        };
        let results = Results {
            steps: vec![step(1000, 70.0), step(10_000, 70.0)],
            ..Results::default()
        };
        let text = markdown(&results);
        assert!(
            text.contains("| 1000 | the first 100 volumes | 70.0 | 70.0 | 70.0 | 4 | - | - |"),
            "{text}"
        );
        assert!(text.contains("| under 50 | no |"), "{text}");
    }
}
