//! Log lines and words to people; writing them never blocks or ends the process.
//!
//! Standard error may be a pipe whose reader is gone, a file on a full disk, or a pipe that nobody reads. The
//! standard macros panic on the first two, and any direct write blocks on the third: a shard that logs one line would
//! stand still with all its connections. So lines of log go through a bounded queue to a thread of their own. Lines
//! that the queue has no room for, or that cannot be written, are dropped; how many the queue dropped is told once
//! there is room again.

use std::{
    fmt::Display,
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    time::{Duration, Instant},
};

use tracing_subscriber::fmt::MakeWriter;

/// Most lines that wait to be written: some for each of 128 shards that fail at once.
const LINES: usize = 1_024;
/// Most bytes of these lines.
const BYTES: usize = 1 << 20;
/// How long the end of a process waits for lines that are still to be written.
const LAST_LINES: Duration = Duration::from_millis(500);
/// Pause before a full queue is tried again at the end of a process.
const FULL_QUEUE: Duration = Duration::from_millis(5);

/// Writes a line to standard output for people, if it can be written.
pub fn say(line: impl Display) {
    // When there is no reader, nothing else changes.
    writeln!(io::stdout().lock(), "{line}").ok();
}

/// Writes a line to standard error, past the log, if it can be written: for words that are said before there is a
/// log.
pub fn complain(line: impl Display) {
    writeln!(io::stderr().lock(), "{line}").ok();
}

/// Sends the messages of panics to the log. By default they are written to standard error at once, which may block
/// for ever.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        tracing::error!("{} panicked: {panic}", thread.name().unwrap_or("a thread"));
    }));
}

/// Where lines of log are written.
#[derive(Debug, Clone)]
pub struct Lines {
    queue: SyncSender<Item>,
    counts: Arc<Counts>,
}

#[derive(Debug)]
enum Item {
    Line(Vec<u8>),
    /// It is answered when all lines before it were tried, and brings the number of lines that were dropped.
    Flush(SyncSender<()>),
}

#[derive(Debug, Default)]
struct Counts {
    waiting_bytes: AtomicUsize,
    dropped: AtomicU64,
}

/// Starts the thread that writes lines of log to `target`.
///
/// # Errors
/// When the thread cannot be made.
pub fn lines(target: impl Write + Send + 'static) -> io::Result<Lines> {
    let (queue, items) = sync_channel(LINES);
    let counts = Arc::new(Counts::default());
    let shared = Arc::clone(&counts);
    std::thread::Builder::new().name("log".to_owned()).spawn(move || write_all(target, &items, &shared))?;
    Ok(Lines { queue, counts })
}

fn write_all(mut target: impl Write, items: &Receiver<Item>, counts: &Counts) {
    while let Ok(item) = items.recv() {
        let mut asked = None;
        match item {
            Item::Line(line) => {
                // On a full disk, or without a reader, this line is lost and the next one may succeed.
                target.write_all(&line).ok();
                counts.waiting_bytes.fetch_sub(line.len(), Relaxed);
            }
            Item::Flush(done) => asked = Some(done),
        }
        let dropped = counts.dropped.swap(0, Relaxed);
        if dropped > 0 {
            let message = format!("{dropped} lines of log were dropped, nobody took them");
            writeln!(target, "{{\"level\":\"WARN\",\"message\":\"{message}\"}}").ok();
        }
        if let Some(done) = asked {
            target.flush().ok();
            // The caller may have given up.
            done.try_send(()).ok();
        }
    }
}

impl Lines {
    /// Queues a line, or drops and counts it. Never blocks.
    fn push(&self, line: &[u8]) {
        let before = self.counts.waiting_bytes.fetch_add(line.len(), Relaxed);
        if before + line.len() > BYTES || self.queue.try_send(Item::Line(line.to_vec())).is_err() {
            self.counts.waiting_bytes.fetch_sub(line.len(), Relaxed);
            self.counts.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Waits for [`LAST_LINES`] at most until what was logged is written: the last thing that a process does.
    pub fn flush(&self) {
        self.flush_within(LAST_LINES);
    }

    fn flush_within(&self, patience: Duration) {
        let end = Instant::now() + patience;
        let (done, written) = sync_channel(1);
        let mut item = Item::Flush(done);
        // A full queue may be being written at this moment, so it is tried again.
        while let Err(TrySendError::Full(back)) = self.queue.try_send(item) {
            if Instant::now() >= end {
                return;
            }
            item = back;
            std::thread::sleep(FULL_QUEUE);
        }
        written.recv_timeout(end.saturating_duration_since(Instant::now())).ok();
    }
}

/// One line; the formatter writes it in one call.
#[derive(Debug)]
pub struct Line<'a>(&'a Lines);

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use super::*;

    /// Takes a line for each permit, and keeps the lines.
    struct Target {
        permits: Receiver<()>,
        taken: Arc<Mutex<Vec<u8>>>,
        fails: bool,
    }

    impl Write for Target {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.permits.recv().ok();
            if self.fails {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.taken.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn target(fails: bool) -> (Target, mpsc::Sender<()>, Arc<Mutex<Vec<u8>>>) {
        let (permit, permits) = mpsc::channel();
        let taken = Arc::new(Mutex::new(Vec::new()));
        (Target { permits, taken: Arc::clone(&taken), fails }, permit, taken)
    }

    #[test]
    fn nobody_waits_for_a_reader_that_does_not_read_and_what_was_dropped_is_told() {
        let (target, permit, taken) = target(false);
        let lines = lines(target).unwrap();
        for number in 0..4 * LINES {
            lines.make_writer().write_all(format!("line {number}\n").as_bytes()).unwrap();
        }
        lines.flush();
        assert!(lines.counts.dropped.load(Relaxed) >= 2 * LINES as u64);
        drop(permit);
        while lines.counts.waiting_bytes.load(Relaxed) > 0 {
            std::thread::yield_now();
        }
        lines.flush();
        let taken = String::from_utf8(taken.lock().unwrap().clone()).unwrap();
        assert!(taken.starts_with("line 0\n") && taken.contains("lines of log were dropped"), "{taken}");
    }

    #[test]
    fn the_last_lines_of_a_full_queue_are_written_and_what_was_dropped_before_is_told() {
        let (target, permit, taken) = target(false);
        let lines = lines(target).unwrap();
        for number in 0..2 * LINES {
            lines.push(format!("line {number}\n").as_bytes());
        }
        let reader = std::thread::spawn(move || {
            // The queue is full when the process begins to end, and is read a moment later.
            std::thread::sleep(5 * FULL_QUEUE);
            drop(permit);
        });
        lines.flush_within(Duration::from_secs(120));
        reader.join().unwrap();
        let taken = String::from_utf8(taken.lock().unwrap().clone()).unwrap();
        assert!(taken.contains(&format!("line {}\n", LINES - 1)), "{taken}");
        assert!(taken.contains("lines of log were dropped"), "{taken}");
    }

    #[test]
    fn bytes_are_bounded_as_well_as_lines() {
        let (target, _permit, _) = target(false);
        let lines = lines(target).unwrap();
        for _ in 0..64 {
            lines.push(&vec![b'x'; BYTES / 16]);
        }
        assert!(lines.counts.waiting_bytes.load(Relaxed) <= BYTES);
        assert!(lines.counts.dropped.load(Relaxed) >= 40);
    }

    #[test]
    fn a_broken_pipe_changes_nothing() {
        let (target, permit, taken) = target(true);
        drop(permit);
        let lines = lines(target).unwrap();
        for _ in 0..10 {
            lines.push(b"x\n");
        }
        lines.flush();
        assert_eq!((lines.counts.waiting_bytes.load(Relaxed), taken.lock().unwrap().len()), (0, 0));
    }
}
