//! Debian's MariaDB on a mounted volume: installed, started, asked, compared row by row.

use crate::cluster;
use crate::driver::output;
use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for the server: recovery of its log fits in it many times.
const READY_MAX: Duration = Duration::from_secs(60);

/// A running server.
pub struct Database {
    child: Child,
    socket: PathBuf,
}

/// A client's session, one statement after another.
pub struct Session {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

/// What row `id` holds: anything that differs from row to row and can be told from `id` alone.
pub fn body(id: u64) -> String {
    let mut x = id.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    format!("{:016x}", x ^ (x >> 31))
}

/// Makes an empty database in a folder of a mounted volume.
pub fn install(data: &Path) -> Result<()> {
    std::fs::create_dir(data)?;
    output(Command::new("chown").arg("mysql:").arg(data))?;
    let mut install = Command::new("mariadb-install-db");
    install.args([
        "--no-defaults",
        "--user=mysql",
        "--skip-test-db",
        "--auth-root-authentication-method=socket",
    ]);
    output(install.arg(format!("--datadir={}", data.display()))).map(drop)
}

impl Database {
    /// Starts a server and waits until it answers. Its log goes to `folder`; the names of sockets are short, so they are
    /// linked in `sockets`.
    pub fn start(data: &Path, name: &str, folder: &Path, sockets: &Path) -> Result<Self> {
        let socket = sockets.join(format!("{name}.sock"));
        let log = folder.join(format!("{name}.log"));
        let mut command = Command::new("mariadbd");
        command.args([
            "--no-defaults",
            "--user=mysql",
            "--skip-networking",
            "--innodb-buffer-pool-size=64M",
        ]);
        command.arg(format!("--datadir={}", data.display()));
        command.arg(format!("--socket={}", data.join("server.sock").display()));
        command.arg(format!("--pid-file={}", data.join("server.pid").display()));
        // Not in the group of this process, so that an interrupt at the terminal does not stop it first.
        command.process_group(0);
        let child = cluster::spawn(&mut command, &log)?;
        cluster::note(folder, child.id())?;
        // The server runs as its own user, so its socket is in its own folder; the link is short.
        let _ = std::fs::remove_file(&socket);
        std::os::unix::fs::symlink(data.join("server.sock"), &socket)?;
        let mut database = Self { child, socket };
        database.wait(&log)?;
        Ok(database)
    }

    fn wait(&mut self, log: &Path) -> Result<()> {
        let deadline = Instant::now() + READY_MAX;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("mariadbd ended with {status}: see {}", log.display());
            }
            let mut session = self.session()?;
            if session.ask("SELECT 1").is_ok() {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "mariadbd does not answer within 60 s: see {}",
                log.display()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// A new session.
    pub fn session(&self) -> Result<Session> {
        let mut command = Command::new("mariadb");
        command.args([
            "--no-defaults",
            "--batch",
            "--unbuffered",
            "--skip-column-names",
        ]);
        command.arg(format!("--socket={}", self.socket.display()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start `mariadb`")?;
        let stdin = child.stdin.take().context("stdin was piped")?;
        let stdout = BufReader::new(child.stdout.take().context("stdout was piped")?);
        Ok(Session {
            child,
            stdin,
            stdout,
        })
    }

    /// Lets the server outlive this process and returns its process id.
    pub fn leave_running(self) -> u32 {
        let pid = self.child.id();
        std::mem::forget(self);
        pid
    }

    /// Stops the server as an operator would.
    pub fn stop(mut self) -> Result<()> {
        output(Command::new("kill").arg(self.child.id().to_string()))?;
        let status = self.child.wait()?;
        ensure!(
            status.success(),
            "mariadbd ended with {status} when told to stop"
        );
        Ok(())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Session {
    /// Runs a statement that answers one line.
    pub fn ask(&mut self, statement: &str) -> Result<String> {
        writeln!(self.stdin, "{statement};")?;
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        ensure!(
            !line.is_empty(),
            "the database gave no answer to `{statement}`"
        );
        Ok(line.trim_end().to_owned())
    }

    /// Makes the table.
    pub fn prepare(&mut self) -> Result<()> {
        self.ask(
            "CREATE DATABASE shop; CREATE TABLE shop.orders (id BIGINT PRIMARY KEY, body CHAR(16) NOT NULL); \
                  SELECT 'made'",
        )
        .map(drop)
    }

    /// Inserts a row; it is committed when this returns.
    pub fn insert(&mut self, id: u64) -> Result<()> {
        let body = body(id);
        let answer = self.ask(&format!(
            "INSERT INTO shop.orders VALUES ({id}, '{body}'); SELECT ROW_COUNT()"
        ))?;
        ensure!(answer == "1", "row {id} was not inserted: {answer}");
        Ok(())
    }

    /// Reads every row; they must be 1 to some number without a gap, each with its contents. Returns that number.
    pub fn verify(&mut self) -> Result<u64> {
        let count: u64 = self.ask("SELECT COUNT(*) FROM shop.orders")?.parse()?;
        writeln!(
            self.stdin,
            "SELECT id, body FROM shop.orders ORDER BY id; CHECK TABLE shop.orders EXTENDED;"
        )?;
        let mut line = String::new();
        for id in 1..=count {
            line.clear();
            self.stdout.read_line(&mut line)?;
            let expected = format!("{id}\t{}", body(id));
            ensure!(
                line.trim_end() == expected,
                "row {id} reads `{}`",
                line.trim_end()
            );
        }
        line.clear();
        self.stdout.read_line(&mut line)?;
        ensure!(
            line.trim_end().ends_with("\tOK"),
            "CHECK TABLE says: {}",
            line.trim_end()
        );
        Ok(count)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
