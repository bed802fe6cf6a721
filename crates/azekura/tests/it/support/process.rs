//! A child process that ends with its owner.

use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// Killed when dropped.
pub struct Process(Child);

impl Process {
    pub fn new(child: Child) -> Self {
        Self(child)
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// SIGKILL: it gets no chance to write anything down.
    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// Sends a signal by name, such as `STOP`.
    pub fn signal(&self, name: &str) {
        signal(u64::from(self.id()), name);
    }

    pub fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.0.wait().unwrap()
    }

    /// How it ended, if it does in time.
    pub fn ended_within(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            let ended = self.0.try_wait().unwrap();
            if ended.is_some() || Instant::now() > deadline {
                return ended;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal to a process that the test started.
pub fn signal(pid: u64, name: &str) {
    let words = [format!("-{name}"), pid.to_string()];
    let told = Command::new("kill").args(words).status().unwrap();
    assert!(told.success(), "cannot send SIG{name} to process {pid}");
}

/// Where a program is: PATH, then the folders of system programs that a user's PATH often lacks.
pub fn find_program(name: &str, package: &str) -> std::path::PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(Into::into);
    let mut folders = std::env::split_paths(&path).chain(system);
    let found = folders.find_map(|folder| {
        let candidate = folder.join(name);
        candidate.is_file().then_some(candidate)
    });
    found.unwrap_or_else(|| panic!("{name} is missing: install Debian package {package}"))
}
