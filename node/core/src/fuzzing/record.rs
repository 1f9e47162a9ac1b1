//! Records of TLS as a peer sends them that has the keys: the same data and the same end come out of every cut.

use arbitrary::Unstructured;

use crate::tls::{
    MAX_PLAINTEXT_BYTES,
    forge::{KINDS, Peer, read, session},
};

/// Longest stream in bytes, so that the pieces are many and not large.
const MOST_BYTES: usize = 64 * 1024;

/// The first byte chooses the version and the suite, and what follows what the peer sends and where its bytes are cut.
pub(super) fn check(bytes: &[u8]) {
    // Too few bytes end the run early, which is no fault.
    run(&mut Unstructured::new(bytes)).ok();
}

fn run(input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let kind = *input.choose(&KINDS)?;
    let stream = stream(input, &mut Peer::new(kind))?;
    let whole = read(&mut session(kind, 0, 0), &stream, &[]);
    let mut cuts = Vec::new();
    for _ in 0..input.int_in_range(0..=16)? {
        cuts.push(input.int_in_range(0..=stream.len())?);
    }
    cuts.sort_unstable();
    assert_eq!(read(&mut session(kind, 0, 0), &stream, &cuts), whole, "{cuts:?}");
    Ok(())
}

/// Sealed records, honest or not, and bytes that nobody has sealed.
fn stream(input: &mut Unstructured<'_>, peer: &mut Peer) -> arbitrary::Result<Vec<u8>> {
    let mut stream = Vec::new();
    while !input.is_empty() && stream.len() < MOST_BYTES {
        match input.int_in_range(0..=5)? {
            0 => stream.extend_from_slice(input.arbitrary()?),
            1 => stream.extend(peer.seal_inner(input.arbitrary()?)),
            2 => {
                let (content, data): (u8, Vec<u8>) = input.arbitrary()?;
                stream.extend(peer.seal(content, &data, input.int_in_range(0..=300)?));
            }
            3 => {
                let long = vec![7; input.int_in_range(MAX_PLAINTEXT_BYTES - 1..=MAX_PLAINTEXT_BYTES + 1)?];
                stream.extend(peer.seal(23, &long, 0));
            }
            _ => {
                let data: Vec<u8> = input.arbitrary()?;
                stream.extend(peer.seal(23, &data, 0));
            }
        }
    }
    Ok(stream)
}
