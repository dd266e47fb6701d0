//! How a child makes sure that it does not outlive its parent: its standard input is a pipe that nobody writes to, and
//! the pipe breaks when the parent is gone, however it went.

use std::io;

use crate::shutdown::Exit;

/// Ends this process as soon as its standard input ends.
pub fn end_with_parent() {
    std::thread::spawn(|| {
        // Whether the pipe ends or fails, there is nobody at its other end.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        std::process::exit(Exit::Error as i32);
    });
}
