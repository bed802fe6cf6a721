//! Faults of the processor: whom the thread that caused one worked for is written into a file before the process ends.
//!
//! A panic runs a hook that can do so; a stack that is too small, or memory that may not be touched, runs a handler of signals.
//!
//! Invariants
//! - Only what the kernel raises for an instruction counts: a signal that somebody sends says nothing of whoever runs just then.
//!   So does no SIGABRT (memory that could not be had may have been taken by others) and no SIGBUS (a machine whose memory fails).
//! - The handler makes system calls and writes to its stack. It takes no lock and allocates nothing.
//! - What ends the process ends it as before: the handler of before is put back, and the instruction runs again.
//!
//! It does not: keep a process alive, or survive a machine that loses power.

#![allow(unsafe_code)]

use libc::c_int;
use rustix::fs::{Mode, OFlags};
use rustix::time::{ClockId, clock_gettime};
use std::ffi::CString;
use std::fmt::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;
use std::{io, ptr};

/// What is listened to, and what it means.
const SIGNALS: [(c_int, &str); 3] = [
    (
        libc::SIGSEGV,
        "SIGSEGV: a stack that was too small, or memory that may not be touched",
    ),
    (libc::SIGILL, "SIGILL: an instruction that ends the process"),
    (libc::SIGFPE, "SIGFPE: a division that cannot be"),
];
/// Bytes of what is written. A handler's stack has 8 KiB, of which the kernel takes up to 3.
const TEXT_BYTES_MAX: usize = 512;

/// What is known of a fault.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Whom the thread worked for: see `world::blame`.
    pub subject: u64,
    /// When, Unix milliseconds.
    pub at_ms: u64,
    /// Which one, in words.
    pub reason: &'static str,
}

/// Puts a fault into words, at most 512 bytes. It runs in a handler of signals: it must not allocate, lock, or panic.
pub type Describe = fn(&mut dyn Write, &Fault) -> fmt::Result;

struct Listening {
    beside: CString,
    file: CString,
    describe: Describe,
    before: [libc::sigaction; SIGNALS.len()],
}

static LISTENING: OnceLock<Listening> = OnceLock::new();

/// From now on a fault of a thread that works for somebody leaves its description in `file`, in a folder that exists. It is
/// written into `beside` first, in the same folder. Once in the life of a process: later calls change nothing.
///
/// # Errors
/// A path with a zero in it, or why the kernel does not want it.
pub fn listen_for_faults(file: &Path, beside: &Path, describe: Describe) -> io::Result<()> {
    let path = |path: &Path| CString::new(path.as_os_str().as_bytes());
    let mut before = [empty_action(); SIGNALS.len()];
    for ((signal, _), before) in SIGNALS.iter().zip(&mut before) {
        change_action(*signal, ptr::null(), before)?;
    }
    let listening = Listening {
        beside: path(beside)?,
        file: path(file)?,
        describe,
        before,
    };
    if LISTENING.set(listening).is_err() {
        return Ok(());
    }
    let mut action = empty_action();
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_fault;
    action.sa_sigaction = handler as libc::sighandler_t;
    // On a stack of its own: that of the thread may be what is used up.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    for (signal, _) in SIGNALS {
        change_action(signal, &raw const action, ptr::null_mut())?;
    }
    Ok(())
}

fn empty_action() -> libc::sigaction {
    // SAFETY: the structure is numbers, a set of bits and an optional function, for all of which zero is a value.
    unsafe { std::mem::zeroed() }
}

fn change_action(
    signal: c_int,
    action: *const libc::sigaction,
    before: *mut libc::sigaction,
) -> io::Result<()> {
    // SAFETY: both pointers are null or of values that live during the call; the handler in `action` is one for SA_SIGINFO.
    match unsafe { libc::sigaction(signal, action, before) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

extern "C" fn on_fault(signal: c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let Some(listening) = LISTENING.get() else {
        return;
    };
    let Some(at) = SIGNALS.iter().position(|(known, _)| *known == signal) else {
        return;
    };
    // SAFETY: the kernel gives a handler with SA_SIGINFO a description that lives until it returns.
    let by_the_kernel = unsafe { (*info).si_code } > 0;
    if by_the_kernel {
        let _written = note(listening, SIGNALS[at].1);
    }
    let put_back = change_action(signal, &raw const listening.before[at], ptr::null_mut());
    if put_back.is_err() || !by_the_kernel {
        // An instruction runs again by itself, a signal that was sent does not.
        // SAFETY: `raise` may be called in a handler. The signal waits until this one returns.
        unsafe { libc::raise(signal) };
    }
}

/// Writes down what is known; `None`: nobody was worked for, or it failed.
fn note(listening: &Listening, reason: &'static str) -> Option<()> {
    let subject = world::blame::subject()?;
    let now = clock_gettime(ClockId::Realtime);
    let whole = u64::try_from(now.tv_sec).ok()?.checked_mul(1000)?;
    let fault = Fault {
        subject,
        at_ms: whole.checked_add(u64::try_from(now.tv_nsec / 1_000_000).ok()?)?,
        reason,
    };
    let mut text = Text::default();
    (listening.describe)(&mut text, &fault).ok()?;
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC | OFlags::CLOEXEC;
    let file = rustix::fs::open(listening.beside.as_c_str(), flags, Mode::from(0o600)).ok()?;
    let mut left = text.bytes.get(..text.used)?;
    while !left.is_empty() {
        let written = rustix::io::write(&file, left)
            .ok()
            .filter(|&bytes| bytes > 0)?;
        left = left.get(written..)?;
    }
    drop(file);
    rustix::fs::rename(listening.beside.as_c_str(), listening.file.as_c_str()).ok()
}

/// Text on the stack.
struct Text {
    bytes: [u8; TEXT_BYTES_MAX],
    used: usize,
}

impl Default for Text {
    fn default() -> Self {
        Self {
            bytes: [0; TEXT_BYTES_MAX],
            used: 0,
        }
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.used + text.len();
        let room = self.bytes.get_mut(self.used..end).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.used = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_too_long_is_refused() {
        let mut text = Text::default();
        assert!(text.write_str(&"x".repeat(TEXT_BYTES_MAX - 1)).is_ok());
        assert!(text.write_str("yz").is_err());
        assert!(text.write_str("y").is_ok());
        assert_eq!(text.used, TEXT_BYTES_MAX);
    }
}
