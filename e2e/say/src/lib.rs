//! Printing for the tools. A reader that has gone does not end the tool.
//!
//! The macros of the standard library panic where their output is a broken pipe or a full disk. `cargo xtask up | head`
//! would leave half a cluster behind, and a load run that took minutes no report in its file.

use std::{
    fmt::Arguments,
    io::{self, Write},
};

/// Like `println!`, and nothing happens when it cannot be written.
#[macro_export]
macro_rules! out {
    ($($words:tt)*) => { $crate::to(&mut ::std::io::stdout(), format_args!("{}\n", format_args!($($words)*))) };
}

/// Like `eprintln!`, and nothing happens when it cannot be written.
#[macro_export]
macro_rules! err {
    ($($words:tt)*) => { $crate::to(&mut ::std::io::stderr(), format_args!("{}\n", format_args!($($words)*))) };
}

/// Like `print!`, and nothing happens when it cannot be written.
#[macro_export]
macro_rules! raw {
    ($($words:tt)*) => { $crate::to(&mut ::std::io::stdout(), format_args!($($words)*)) };
}

/// Writes as much as is taken.
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
