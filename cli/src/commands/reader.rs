//! Whoever reads what a command prints may have seen enough before it ends, as `head` does. That is no bug.

use std::io;
use std::panic;

use nix::errno::Errno;

/// As shells show it where `SIGPIPE` ended a process.
const EXIT_CODE: i32 = 128 + 13;

/// From here on the process ends in silence when it prints and nobody reads it any more.
///
/// `print!` panics then. That signal would do as well, and would also end whoever writes to a *connection* that the other end
/// has closed, which players do all the time.
pub fn may_leave() {
    let closed = io::Error::from(Errno::EPIPE);
    let panics = ["stdout", "stderr"].map(|stream| format!("failed printing to {stream}: {closed}"));
    let others = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if info.payload_as_str().is_some_and(|message| panics.iter().any(|it| it == message)) {
            std::process::exit(EXIT_CODE);
        }
        others(info);
    }));
}
