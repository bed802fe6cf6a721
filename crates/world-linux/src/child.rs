//! Child processes that do not outlive this one.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

/// Starts a process that the kernel kills when the calling thread ends, and with it when this process does, however that
/// comes about.
///
/// # Errors
/// Why it cannot be started.
#[allow(unsafe_code)]
pub fn spawn_bound(command: &mut Command) -> io::Result<Child> {
    let parent = rustix::process::getpid();
    let bind = move || {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        // It may have ended before that was said.
        match rustix::process::getppid() == Some(parent) {
            true => Ok(()),
            false => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    };
    // SAFETY: between fork and exec `bind` makes two system calls through rustix, which calls the kernel directly. It
    // allocates nothing, takes no lock, and touches no memory but its own copy of `parent`.
    unsafe { command.pre_exec(bind) };
    command.spawn()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;

    #[test]
    fn a_bound_child_ends_with_the_thread_that_started_it() {
        let started = std::thread::spawn(|| {
            let mut command = Command::new("sleep");
            spawn_bound(command.arg("60").stdin(Stdio::null())).unwrap()
        });
        let mut child = started.join().unwrap();
        let ended = child.wait().unwrap();
        assert!(!ended.success(), "{ended}");
    }
}
