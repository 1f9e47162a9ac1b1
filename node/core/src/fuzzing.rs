//! The targets of `cargo xtask fuzz`: one function for each place where bytes of somebody else come in.
//!
//! A target panics when something is not so that must always be so. The programs around them are in `node/core/fuzz`,
//! a workspace of its own that needs libFuzzer; the tests here run the same functions on the corpus that is kept
//! there, so that faults that were found once are found again without libFuzzer.

use arbitrary::Unstructured;

mod config;
mod deflate;
mod envelope;
mod frame;
mod longpoll;
mod msgpack;
mod origin;
mod protocol;
mod proxy;
mod record;
mod token;

/// A target: any bytes are good input, and none may make it panic.
pub type Target = fn(&[u8]);

/// All targets by their names, which are those of the programs and of the directories of the corpus.
pub const TARGETS: [(&str, Target); 12] = [
    ("config", config::check),
    ("deflate", deflate::check),
    ("envelope", envelope::check),
    ("frame", frame::check),
    ("longpoll", longpoll::check),
    ("msgpack", msgpack::check),
    ("origin", origin::check),
    ("protocol", protocol::check),
    ("proxy", proxy::check),
    ("record", record::check),
    ("shard", shard),
    ("token", token::check),
];

/// Runs one target; unknown names do nothing.
pub fn run(target: &str, bytes: &[u8]) {
    if let Some((_, check)) = TARGETS.iter().find(|(name, _)| *name == target) {
        check(bytes);
    }
}

/// Lets clients, other nodes, the kernel, time and the operator act on the shards of a node, in any order.
fn shard(bytes: &[u8]) {
    // Too few bytes end the run early, which is no fault.
    crate::shard::tests::chaos::run(&mut Unstructured::new(bytes)).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The inputs are also cut in the middle and turned around, which costs nothing and reaches neighbouring cases.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "the corpus is files")]
    fn the_kept_corpus_passes() {
        for (name, check) in TARGETS {
            let directory = format!("{}/fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
            let mut files = 0;
            for entry in std::fs::read_dir(&directory).expect(&directory) {
                let path = entry.expect("listed").path();
                let mut bytes = std::fs::read(&path).expect("readable");
                // The harness captures this, and shows it only when the target panics.
                println!("{}", path.display());
                check(&bytes);
                check(&bytes[..bytes.len() / 2]);
                bytes.reverse();
                check(&bytes);
                files += 1;
            }
            assert!(files > 0, "{directory} is empty");
        }
    }

    #[test]
    fn nothing_and_one_byte_pass() {
        for (_, check) in TARGETS {
            check(&[]);
            (0..=u8::MAX).for_each(|byte| check(&[byte]));
        }
    }
}
