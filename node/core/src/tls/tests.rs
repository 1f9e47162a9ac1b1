use super::{
    forge::{Peer, SUITES, mirror, read, session},
    *,
};

const MOST: usize = MAX_PLAINTEXT_BYTES;

/// Bytes of hexadecimal digits.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

fn sealed(session: &mut Session, data: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; data.len() + OVERHEAD_BYTES];
    buffer[HEADER_BYTES..HEADER_BYTES + data.len()].copy_from_slice(data);
    let length = session.seal(Content::Data, &mut buffer, data.len()).unwrap();
    assert_eq!(length, buffer.len());
    buffer
}

/// The application data and the alert of RFC 8448, section 3, which another implementation has sealed.
#[test]
fn the_records_of_rfc_8448_are_opened_and_made() {
    let client = (hex("17422dda596ed5d9acd890e3c63f5051"), hex("5b78923dee08579033e523d9"));
    let server = (hex("9f02283b6c9c07efc26bb9f2ac92e356"), hex("cf782b88dd83549aadf1e984"));
    fn secrets((key, iv): &(Vec<u8>, Vec<u8>), sequence: u64) -> Secrets<'_> {
        Secrets { sequence, key, iv }
    }
    let mut session = Session::new(Suite::Aes128Gcm, &secrets(&server, 1), &secrets(&client, 0), 7).unwrap();
    let data: Vec<u8> = (0..50).collect();
    let mut from_client = hex(
        "17030300 43a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a20441e2b62974e1f5a6292a\
         2977014bd1e3deae63aeebb21694915e4 1703030013 c9872760655666b74d7ff1153efd6db6d0b0e3",
    );
    let opened = session.open(&mut from_client);
    assert_eq!((&from_client[..opened.data], opened.end), (&data[..], Some(End::Closed)));
    let from_server = hex(
        "17030300432e937e11ef4ac740e538ad36005fc4a46932fc3225d05f82aa1b36e30efaf97d90e6dffc602dcb501a59a8fcc49c4bf2e5f0a21c\
         0047c2abf332540dd032e167c2955d",
    );
    assert_eq!(sealed(&mut session, &data), from_server);
}

#[test]
fn both_directions_carry_all_lengths_in_every_suite() {
    for suite in SUITES {
        let (mut here, mut there) = (session(suite, 0, 0), mirror(suite));
        let lengths = [0, 1, 2, 16, 100, 255, 256, 4_096, MOST - 1, MOST];
        let all: Vec<u8> = (0..MOST).map(|at| at as u8).collect();
        for length in lengths {
            let mut record = sealed(&mut here, &all[..length]);
            let opened = there.open(&mut record);
            assert_eq!(opened, Opened { data: length, used: record.len(), end: None });
            assert_eq!(record[..length], all[..length]);
            let mut record = sealed(&mut there, &all[..length]);
            assert_eq!(here.open(&mut record).data, length);
        }
    }
}

#[test]
fn every_cut_of_a_stream_gives_the_same() {
    for suite in SUITES {
        let mut peer = Peer::new(suite);
        let mut stream = Vec::new();
        for (content, data, padding) in [
            (23, &b"hello"[..], 0),
            (23, b"", 3),
            (21, &[1, 90], 0),
            (23, b"world", 20),
            (21, &[1, 0], 0),
            (23, b"late", 0),
        ] {
            stream.extend(peer.seal(content, data, padding));
        }
        let whole = read(&mut session(suite, 0, 0), &stream, &[]);
        assert_eq!(whole, (b"helloworld".to_vec(), Some(End::Closed)));
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                assert_eq!(
                    read(&mut session(suite, 0, 0), &stream, &[first, second]),
                    whole,
                    "{first} {second}"
                );
            }
        }
        let bytes: Vec<usize> = (0..stream.len()).collect();
        assert_eq!(read(&mut session(suite, 0, 0), &stream, &bytes), whole);
    }
}

#[test]
fn a_broken_record_ends_the_connection_with_its_alert() {
    let broken = |alert| Some(End::Broken(alert));
    for suite in SUITES {
        let inner = |inner: &[u8]| Peer::new(suite).seal_inner(inner.to_vec());
        let with = |content: u8, data: &[u8]| Peer::new(suite).seal(content, data, 0);
        let changed = |at: usize, to: u8| {
            let mut record = with(23, b"data");
            record[at] = to;
            record
        };
        for (name, record, end) in [
            ("a plain alert", vec![21, 3, 3, 0, 2, 1, 0], broken(Alert::UnexpectedMessage)),
            ("change_cipher_spec", vec![20, 3, 3, 0, 1, 1], broken(Alert::UnexpectedMessage)),
            ("a plain handshake", vec![22, 3, 3, 0, 1, 1], broken(Alert::UnexpectedMessage)),
            ("another type outside", vec![24], broken(Alert::UnexpectedMessage)),
            ("too long outside", vec![23, 3, 3, 0x41, 1], broken(Alert::RecordOverflow)),
            ("no room for a tag", vec![23, 3, 3, 0, 3, 1, 2, 3], broken(Alert::BadRecordMac)),
            ("nothing at all", vec![23, 3, 3, 0, 0], broken(Alert::BadRecordMac)),
            ("another tag", changed(20, 0), broken(Alert::BadRecordMac)),
            ("other data", changed(5, 0), broken(Alert::BadRecordMac)),
            ("nothing inside", inner(&[]), broken(Alert::UnexpectedMessage)),
            ("only padding", inner(&[0; 40]), broken(Alert::UnexpectedMessage)),
            ("too long inside", inner(&vec![23; MOST + 2]), broken(Alert::RecordOverflow)),
            ("padding beyond", with(23, &vec![0; MOST + 1]), broken(Alert::RecordOverflow)),
            ("an empty alert", with(21, &[]), broken(Alert::UnexpectedMessage)),
            ("an alert of one byte", with(21, &[1]), broken(Alert::DecodeError)),
            ("two alerts in one", with(21, &[1, 0, 1, 0]), broken(Alert::DecodeError)),
            ("an empty handshake", with(22, &[]), broken(Alert::UnexpectedMessage)),
            ("a new session ticket", with(22, &[4, 0, 0, 0]), broken(Alert::UnexpectedMessage)),
            ("a key update", with(22, &[24, 0, 0, 1, 0]), broken(Alert::InternalError)),
            ("a type of no meaning", with(25, b"x"), broken(Alert::UnexpectedMessage)),
            ("a sealed change_cipher_spec", with(20, &[1]), broken(Alert::UnexpectedMessage)),
            ("the peer gives up", with(21, &[2, 40]), Some(End::Closed)),
            ("the longest", with(23, &vec![1; MOST]), None),
        ] {
            let mut session = session(suite, 0, 0);
            let (data, got) = read(&mut session, &record, &[]);
            assert_eq!(got, end, "{name}");
            assert_eq!(data.len(), if end.is_none() { MOST } else { 0 }, "{name}");
        }
    }
}

#[test]
fn a_record_is_opened_once_and_in_its_order() {
    let mut peer = Peer::new(Suite::Aes256Gcm);
    let (first, second) = (peer.seal(23, b"1", 0), peer.seal(23, b"2", 0));
    for wrong in [[&first[..], &first].concat(), [&second[..], &first].concat()] {
        let (data, end) = read(&mut session(Suite::Aes256Gcm, 0, 0), &wrong, &[]);
        assert_eq!(end, Some(End::Broken(Alert::BadRecordMac)));
        assert!(data.len() <= 1);
    }
}

#[test]
fn a_header_of_another_version_is_taken_for_this_one() {
    let mut record = Peer::new(Suite::Aes128Gcm).seal(23, b"data", 0);
    record[2] = 1;
    assert_eq!(read(&mut session(Suite::Aes128Gcm, 0, 0), &record, &[]), (b"data".to_vec(), None));
}

#[test]
fn some_records_without_data_pass_and_many_do_not() {
    let mut peer = Peer::new(Suite::ChaCha20Poly1305);
    let mut some: Vec<u8> = (0..32).flat_map(|_| peer.seal(23, b"", 0)).collect();
    some.extend(peer.seal(23, b"x", 0));
    assert_eq!(read(&mut session(Suite::ChaCha20Poly1305, 0, 0), &some, &[]), (b"x".to_vec(), None));
    let mut peer = Peer::new(Suite::ChaCha20Poly1305);
    let many: Vec<u8> = (0..33).flat_map(|_| peer.seal(23, b"", 0)).collect();
    let (data, end) = read(&mut session(Suite::ChaCha20Poly1305, 0, 0), &many, &[]);
    assert_eq!((data.len(), end), (0, Some(End::Broken(Alert::UnexpectedMessage))));
}

#[test]
fn a_key_of_aes_is_worn_before_its_limit_and_seals_nothing_beyond() {
    for suite in SUITES {
        let mut worn = session(suite, (1 << 23) - 1, 0);
        assert!(!worn.is_worn());
        sealed(&mut worn, b"x");
        let is_aes = suite != Suite::ChaCha20Poly1305;
        assert_eq!(worn.is_worn(), is_aes);
        sealed(&mut worn, b"x");
        assert!(!worn.is_worn(), "it is told once");
        let mut last = session(suite, (1 << 24) - 1, 0);
        sealed(&mut last, b"x");
        let refused = last.seal(Content::Data, &mut [0; 64], 1).is_err();
        assert_eq!((refused, last.alert(Alert::CloseNotify).is_err()), (is_aes, is_aes));
    }
}

#[test]
fn alerts_are_read_by_the_other_side() {
    let (mut here, mut there) = (session(Suite::Aes128Gcm, 0, 0), mirror(Suite::Aes128Gcm));
    assert_eq!(there.open(&mut here.alert(Alert::UserCanceled).unwrap()).end, None);
    assert_eq!(there.open(&mut here.alert(Alert::CloseNotify).unwrap()).end, Some(End::Closed));
}

#[test]
fn secrets_of_another_suite_are_refused_and_none_is_shown() {
    let secrets = |bytes: &'static [u8]| Secrets { sequence: 0, key: bytes, iv: &[7; 12] };
    let (short, long) = (secrets(&[0x41; 16]), secrets(&[0x41; 32]));
    assert!(Session::new(Suite::Aes128Gcm, &short, &long, 0).is_none());
    assert!(Session::new(Suite::Aes256Gcm, &short, &long, 0).is_none());
    let iv = Secrets { iv: &[7; 8], ..short };
    assert!(Session::new(Suite::Aes128Gcm, &iv, &short, 0).is_none());
    let shown = format!("{:?}", session(Suite::Aes128Gcm, 3, 4));
    assert_eq!(shown, "Session { suite: Aes128Gcm, sealed: 3, opened: 4, .. }");
}
