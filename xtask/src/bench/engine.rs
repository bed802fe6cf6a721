//! The engine without NBD: `azekura bench`, in a client process of its own or inside the owner.

use super::fio::{Job, Measured};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A volume and the way to it.
#[derive(Clone)]
pub struct Engine {
    /// The `azekura` to run.
    pub binary: PathBuf,
    /// Its name.
    pub volume: String,
    /// API of its owner.
    pub api: crate::rest::Api,
    /// The owner's `--bench-socket`; nothing: a client process of its own.
    pub socket: Option<PathBuf>,
}

/// What a job measured, and the CPU time of the client for each operation, where the client is a process of its own.
pub struct Outcome {
    pub measured: Measured,
    pub client_cpu_us: Option<f64>,
}

impl Engine {
    /// Runs a job for `seconds` on the first `bytes`.
    pub fn run(&self, job: &Job, bytes: u64, seconds: u64) -> Result<Outcome> {
        let mut command = Command::new(&self.binary);
        command.args(["bench", "--output", "json", "--api"]);
        command.arg(self.api.url());
        if let Some(folder) = &self.api.credentials {
            command.arg("--credentials").arg(folder);
        }
        command.args(["--volume", &self.volume]);
        match &self.socket {
            Some(socket) => command.args(["--through", "owner", "--socket"]).arg(socket),
            None => command.args(["--through", "remote"]),
        };
        let kind = if job.flush {
            "write-flush"
        } else {
            job.pattern
        };
        command.args(["--job", kind]);
        command.args(["--block-size", &(job.block_kib << 10).to_string()]);
        command.args(["--depth", &(job.depth * job.jobs).to_string()]);
        command.args(["--span", &bytes.to_string()]);
        command.args(["--seconds", &seconds.to_string()]);
        let output = command
            .stdin(Stdio::null())
            .output()
            .context("cannot run azekura bench")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "azekura bench failed: {said}");
        let answer: Value = serde_json::from_slice(&output.stdout)?;
        ensure!(
            answer["errors"] == 0,
            "azekura bench met errors: {}",
            answer["first_error"]
        );
        let own = self.socket.is_none();
        parse(&answer, own)
    }
}

fn parse(answer: &Value, own_process: bool) -> Result<Outcome> {
    let whole = |name: &str| {
        let value = answer[name].as_u64();
        value.with_context(|| format!("azekura bench says no {name}"))
    };
    let number = |name: &str| {
        let value = answer[name].as_f64();
        value.with_context(|| format!("azekura bench says no {name}"))
    };
    let measured = Measured {
        operations: whole("operations")?,
        bytes: whole("bytes")?,
        seconds: number("seconds")?,
        p50_us: number("p50_us")?,
        p99_us: number("p99_us")?,
    };
    ensure!(measured.operations > 0, "azekura bench did nothing");
    let cpu = number("cpu_us")? / measured.operations as f64;
    Ok(Outcome {
        measured,
        client_cpu_us: own_process.then_some(cpu),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_of_azekura_bench_is_read() {
        let answer = serde_json::json!({"operations": 100, "bytes": 409_600, "seconds": 0.5,
            "p50_us": 12.0, "p99_us": 99.0, "cpu_us": 1000});
        let outcome = parse(&answer, true).expect("all fields are there");
        assert_eq!(outcome.client_cpu_us, Some(10.0));
        assert_eq!(outcome.measured.rate(), 200.0);
        assert!(parse(&serde_json::json!({}), true).is_err());
    }
}
