//! Printing for the tools. When the reader is gone, the tool goes on.
//!
//! The macros of the standard library panic where their output is a broken pipe or a full disk. Then `cargo xtask up
//! | head` would leave half a cluster behind, and a load run of minutes would write no report.

use std::{
    fmt::Arguments,
    io::{self, Write},
};

/// Like `println!`, but nothing happens when the text cannot be written.
#[macro_export]
macro_rules! out {
    ($($words:tt)*) => { $crate::to(&mut ::std::io::stdout(), format_args!("{}\n", format_args!($($words)*))) };
}

/// Like `eprintln!`, but nothing happens when the text cannot be written.
#[macro_export]
macro_rules! err {
    ($($words:tt)*) => { $crate::to(&mut ::std::io::stderr(), format_args!("{}\n", format_args!($($words)*))) };
}

/// Like `print!`, but nothing happens when the text cannot be written.
#[macro_export]
macro_rules! raw {
    ($($words:tt)*) => { $crate::to(&mut ::std::io::stdout(), format_args!($($words)*)) };
}

/// Writes as much as the target takes.
pub fn to(target: &mut impl Write, words: Arguments<'_>) {
    let written: io::Result<()> = target.write_fmt(words).and_then(|()| target.flush());
    // Without a reader the tool goes on.
    written.ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    #[test]
    fn what_cannot_be_written_is_dropped() {
        to(&mut Broken, format_args!("{} words", 3));
        let mut taken = Vec::new();
        to(&mut taken, format_args!("{} words", 3));
        assert_eq!(taken, b"3 words");
    }
}
