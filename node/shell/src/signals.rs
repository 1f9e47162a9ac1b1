//! Signals: each ends the process in order, asks for something, or changes nothing. None that can be caught kills it.
//!
//! | signal | what it does |
//! |---|---|
//! | TERM, INT, QUIT | ends in order |
//! | HUP | asks for the configuration to be read again |
//! | all others that would end a process: USR1, USR2, ALRM, VTALRM, PROF, IO, PWR, STKFLT, XCPU, XFSZ, PIPE, real-time ones | nothing |
//!
//! KILL and STOP cannot be caught; signals that tell of a fault in the program (SEGV, BUS, ILL, FPE, ABRT, SYS, TRAP)
//! keep the system's effect. HUP and QUIT stay ignored where they were when the process started, as under `nohup`.

use std::io;

use rustix::process::Signal as Number;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that change nothing; PIPE is ignored by Rust's runtime already.
const NOTHING: [Number; 10] = [
    Number::USR1,
    Number::USR2,
    Number::ALARM,
    Number::VTALARM,
    Number::PROF,
    Number::IO,
    Number::POWER,
    Number::STKFLT,
    Number::XCPU,
    Number::XFSZ,
];
/// Real-time signals of Linux, of which C libraries keep the first two or three for themselves.
const REAL_TIME: std::ops::RangeInclusive<i32> = 35..=64;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// To end in order.
    End,
    /// The same from a keyboard, where a second signal means at once.
    Interrupt,
    /// To read the configuration again.
    Reload,
}

/// The signals that mean something.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Option<Signal>,
    hangup: Option<Signal>,
}

impl Signals {
    /// Takes over all signals, inside a runtime.
    ///
    /// # Errors
    /// When the system refuses a handler.
    pub fn new() -> io::Result<Self> {
        for kind in NOTHING {
            // The handler stays for the life of the process, also without a receiver.
            drop(signal(SignalKind::from_raw(kind.as_raw()))?);
        }
        for number in REAL_TIME {
            // A kernel or C library that has fewer real-time signals refuses the other numbers.
            signal(SignalKind::from_raw(number)).map(drop).ok();
        }
        let ignored = ignored_at_start();
        let unless_ignored = |kind: SignalKind| {
            let bit = 1 << (kind.as_raw_value() - 1);
            if ignored & bit == 0 { signal(kind).map(Some) } else { Ok(None) }
        };
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: unless_ignored(SignalKind::quit())?,
            hangup: unless_ignored(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal that means something. Safe to cancel.
    pub async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::End,
            _ = self.interrupt.recv() => Asked::Interrupt,
            () = one(&mut self.quit) => Asked::End,
            () = one(&mut self.hangup) => Asked::Reload,
        }
    }
}

async fn one(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Bits of the signals that are ignored now, the first for signal 1; none where the system does not say.
fn ignored_at_start() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
