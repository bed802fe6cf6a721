//! The report of a soak test.

use super::load::{Load, Pulse};
use std::fmt::Write;
use std::time::Duration;

/// One strike.
pub struct Event {
    /// Since the start.
    pub at: Duration,
    /// In words.
    pub what: String,
    /// How long the disturbance itself took.
    pub struck: Duration,
    /// From its beginning until the cluster was whole again.
    pub whole: Duration,
    /// The longest operation meanwhile.
    pub longest: Duration,
    /// Bytes compared afterwards.
    pub verified: u64,
}

impl Event {
    /// For the terminal.
    pub fn line(&self) -> String {
        format!(
            "{:6.1} s  {}: longest operation {:.1} s, whole after {:.1} s, {} MiB compared",
            self.at.as_secs_f64(),
            self.what,
            self.longest.as_secs_f64(),
            self.whole.as_secs_f64(),
            self.verified >> 20
        )
    }
}

/// All of them.
pub struct Report {
    minutes: u64,
    seed: u64,
    quiet: Duration,
    events: Vec<Event>,
}

impl Report {
    /// An empty one.
    pub fn new(minutes: u64, seed: u64) -> Self {
        Self {
            minutes,
            seed,
            quiet: Duration::ZERO,
            events: Vec::new(),
        }
    }

    /// The longest operation before anything was struck.
    pub fn quiet(&mut self, longest: Duration) {
        self.quiet = longest;
    }

    /// One more.
    pub fn add(&mut self, event: Event) {
        self.events.push(event);
    }

    /// As Markdown.
    pub fn markdown(&self, pulse: &Pulse, loads: &[Load], errors: &[String]) -> String {
        let mut text = String::new();
        let (operations, written) = pulse.totals();
        let verified: u64 = self.events.iter().map(|event| event.verified).sum();
        let _ = writeln!(
            text,
            "Soak test of {} minutes, seed {}: {} strikes, {} loads, {operations} durable operations of {} MiB, {} MiB \
             compared, {} things wrong. Longest operation before the first strike: {:.2} s.\n",
            self.minutes,
            self.seed,
            self.events.len(),
            loads.len(),
            written >> 20,
            verified >> 20,
            errors.len(),
            self.quiet.as_secs_f64()
        );
        for error in errors {
            let _ = writeln!(text, "- WRONG: {error}");
        }
        let _ = writeln!(
            text,
            "| at (s) | strike | took (s) | longest operation (s) | whole again after (s) | compared (MiB) |\n\
             | ---: | --- | ---: | ---: | ---: | ---: |"
        );
        for event in &self.events {
            let _ = writeln!(
                text,
                "| {:.0} | {} | {:.1} | {:.1} | {:.1} | {} |",
                event.at.as_secs_f64(),
                event.what,
                event.struck.as_secs_f64(),
                event.longest.as_secs_f64(),
                event.whole.as_secs_f64(),
                event.verified >> 20
            );
        }
        text
    }
}
