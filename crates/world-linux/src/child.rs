//! Child processes that do not outlive this one, and some that do.

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

/// Starts a process that inherits standard input, output and error output and no other open file, whoever has opened it, and
/// how carelessly. On a kernel before Linux 5.11 it inherits those that others left open for it.
///
/// # Errors
/// Why it cannot be started.
#[allow(unsafe_code)]
pub fn spawn_alone(command: &mut Command) -> io::Result<Child> {
    let (first, last) = (libc::c_ulong::from(3_u32), libc::c_ulong::from(u32::MAX));
    let flags = libc::c_ulong::from(libc::CLOSE_RANGE_CLOEXEC);
    let shut = move || {
        // At the start of the program, and not at once: what tells the starter of a failure is among them.
        // SAFETY: `close_range(2)` takes three numbers and touches no memory of this process. With this flag it closes nothing
        // before exec, after which nobody is left who could use what was open.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
        Ok(())
    };
    // SAFETY: between fork and exec `shut` makes one system call. It allocates nothing, takes no lock, and touches no memory but
    // its own copies of three numbers and `errno`.
    unsafe { command.pre_exec(shut) };
    command.spawn()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::process::Stdio;

    #[test]
    fn a_child_that_is_alone_has_no_file_that_was_left_open_for_it() {
        let file = std::fs::File::open("/dev/null").unwrap();
        rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
        let inherits = |spawn: fn(&mut Command) -> io::Result<Child>| {
            let mut command = Command::new("test");
            command.args(["-e", &format!("/proc/self/fd/{}", file.as_raw_fd())]);
            spawn(&mut command).unwrap().wait().unwrap().success()
        };
        assert!(inherits(Command::spawn), "the test is one");
        assert!(!inherits(spawn_alone));
    }

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
