use super::{
    forge::{KINDS, Kind, Peer, mirror, read, session},
    *,
};

const MOST: usize = MAX_PLAINTEXT_BYTES;
const AES_128: Kind = (Version::Tls13, Suite::Aes128Gcm);

/// Bytes of hexadecimal digits.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

fn sealed(session: &mut Session, data: &[u8]) -> Vec<u8> {
    let (mut buffer, head) = (vec![0; data.len() + OVERHEAD_BYTES], session.head_bytes());
    buffer[head..head + data.len()].copy_from_slice(data);
    let length = session.seal(Content::Data, &mut buffer, data.len()).unwrap();
    buffer.truncate(length);
    buffer
}

fn alert(session: &mut Session, alert: Alert) -> Result<Vec<u8>, Worn> {
    session.alert(alert, &mut [0; ALERT_BYTES]).map(<[u8]>::to_vec)
}

/// The application data and the alert of RFC 8448, section 3, which another implementation has sealed.
#[test]
fn the_records_of_rfc_8448_are_opened_and_made() {
    let client = (hex("17422dda596ed5d9acd890e3c63f5051"), hex("5b78923dee08579033e523d9"));
    let server = (hex("9f02283b6c9c07efc26bb9f2ac92e356"), hex("cf782b88dd83549aadf1e984"));
    fn secrets((key, iv): &(Vec<u8>, Vec<u8>), sequence: u64) -> Secrets<'_> {
        Secrets { sequence, key, iv }
    }
    let mut session =
        Session::new(Version::Tls13, Suite::Aes128Gcm, &secrets(&server, 1), &secrets(&client, 0), 7)
            .unwrap();
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

/// No RFC has records of these suites with TLS 1.2. These are of Python's package cryptography, made from the text of RFC 5246,
/// RFC 5288 and RFC 7905: `hello` as the sixth record.
#[test]
fn the_records_of_tls_1_2_are_those_of_another_implementation() {
    for (suite, record) in [
        (Suite::Aes128Gcm, "170303001d1717171717171712367fab3b9689b86b697cedff8bf20fd607d46cb21f"),
        (Suite::Aes256Gcm, "170303001d1717171717171712a7689bfc2388e305666838a27b29c067f7c3750737"),
        (Suite::ChaCha20Poly1305, "170303001565d724d40851c1306a2a45762239960d8e98cc781c"),
    ] {
        assert_eq!(sealed(&mut session((Version::Tls12, suite), 5, 0), b"hello"), hex(record), "{suite:?}");
    }
}

#[test]
fn both_directions_carry_all_lengths_in_every_suite() {
    for kind in KINDS {
        let (mut here, mut there) = (session(kind, 0, 0), mirror(kind));
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
    for kind in KINDS {
        let mut peer = Peer::new(kind);
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
        let whole = read(&mut session(kind, 0, 0), &stream, &[]);
        assert_eq!(whole, (b"helloworld".to_vec(), Some(End::Closed)));
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                assert_eq!(
                    read(&mut session(kind, 0, 0), &stream, &[first, second]),
                    whole,
                    "{first} {second}"
                );
            }
        }
        let bytes: Vec<usize> = (0..stream.len()).collect();
        assert_eq!(read(&mut session(kind, 0, 0), &stream, &bytes), whole);
    }
}

#[test]
fn a_broken_record_ends_the_connection_with_its_alert() {
    let broken = |alert| Some(End::Broken(alert));
    for kind in KINDS.into_iter().filter(|kind| kind.0 == Version::Tls13) {
        let inner = |inner: &[u8]| Peer::new(kind).seal_inner(inner.to_vec());
        let with = |content: u8, data: &[u8]| Peer::new(kind).seal(content, data, 0);
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
            let mut session = session(kind, 0, 0);
            let (data, got) = read(&mut session, &record, &[]);
            assert_eq!(got, end, "{name}");
            assert_eq!(data.len(), if end.is_none() { MOST } else { 0 }, "{name}");
        }
    }
}

#[test]
fn a_broken_record_of_tls_1_2_ends_the_connection_with_its_alert() {
    let broken = |alert| Some(End::Broken(alert));
    for kind in KINDS.into_iter().filter(|kind| kind.0 == Version::Tls12) {
        let with = |content: u8, data: &[u8]| Peer::new(kind).seal(content, data, 0);
        let changed = |at: usize, to: u8| {
            let mut record = with(23, b"data");
            record[at] = to;
            record
        };
        let short = |length: u8| [&[23, 3, 3, 0, length][..], &vec![7; length.into()]].concat();
        for (name, record, end) in [
            ("a plain alert", vec![21, 3, 3, 0, 2, 1, 0], broken(Alert::BadRecordMac)),
            ("change_cipher_spec", vec![20, 3, 3, 0, 1, 1], broken(Alert::UnexpectedMessage)),
            ("a plain hello", vec![22, 3, 3, 0, 4, 1, 0, 0, 0], broken(Alert::BadRecordMac)),
            ("another type outside", vec![24], broken(Alert::UnexpectedMessage)),
            ("a heartbeat", with(24, b"x"), broken(Alert::UnexpectedMessage)),
            ("too long outside", vec![23, 3, 3, 0x41, 1], broken(Alert::RecordOverflow)),
            ("nothing at all", short(0), broken(Alert::BadRecordMac)),
            ("no room for a nonce", short(7), broken(Alert::BadRecordMac)),
            ("no room for a tag", short(23), broken(Alert::BadRecordMac)),
            ("another type", changed(0, 21), broken(Alert::BadRecordMac)),
            ("another version", changed(2, 2), broken(Alert::BadRecordMac)),
            ("other data", changed(14, 0), broken(Alert::BadRecordMac)),
            ("too long inside", with(23, &vec![7; MOST + 1]), broken(Alert::RecordOverflow)),
            ("an empty alert", with(21, &[]), broken(Alert::UnexpectedMessage)),
            ("an alert of one byte", with(21, &[1]), broken(Alert::DecodeError)),
            ("an alert of no level", with(21, &[3, 0x50]), broken(Alert::DecodeError)),
            ("two alerts in one", with(21, &[1, 0, 1, 0]), broken(Alert::DecodeError)),
            ("an empty handshake", with(22, &[]), broken(Alert::UnexpectedMessage)),
            ("a hello", with(22, &[1, 0, 0, 0]), broken(Alert::NoRenegotiation)),
            ("another handshake message", with(22, &[20, 0, 0, 0]), broken(Alert::UnexpectedMessage)),
            ("a sealed change_cipher_spec", with(20, &[1]), broken(Alert::UnexpectedMessage)),
            ("the peer gives up", with(21, &[2, 40]), Some(End::Closed)),
            ("the peer is done", with(21, &[1, 0]), Some(End::Closed)),
            ("the longest", with(23, &vec![1; MOST]), None),
        ] {
            let mut session = session(kind, 0, 0);
            let (data, got) = read(&mut session, &record, &[]);
            assert_eq!(got, end, "{kind:?}: {name}");
            assert_eq!(data.len(), if end.is_none() { MOST } else { 0 }, "{name}");
        }
        // A warning says nothing, and many of them end the connection.
        let mut peer = Peer::new(kind);
        let warnings: Vec<u8> = (0..32).flat_map(|_| peer.seal(21, &[1, 100], 0)).collect();
        let mut session = session(kind, 0, 0);
        assert_eq!(read(&mut session, &warnings, &[]), (Vec::new(), None));
        let (_, end) = read(&mut session, &peer.seal(21, &[1, 100], 0), &[]);
        assert_eq!(end, broken(Alert::UnexpectedMessage));
        // A record of TLS 1.3 with the same keys is none of TLS 1.2.
        let other = Peer::new((Version::Tls13, kind.1)).seal(23, b"data", 0);
        assert_eq!(read(&mut self::session(kind, 0, 0), &other, &[]).1, broken(Alert::BadRecordMac));
    }
}

#[test]
fn a_record_is_opened_once_and_in_its_order() {
    for kind in KINDS {
        let mut peer = Peer::new(kind);
        let (first, second) = (peer.seal(23, b"1", 0), peer.seal(23, b"2", 0));
        for wrong in [[&first[..], &first].concat(), [&second[..], &first].concat()] {
            let (data, end) = read(&mut session(kind, 0, 0), &wrong, &[]);
            assert_eq!(end, Some(End::Broken(Alert::BadRecordMac)));
            assert!(data.len() <= 1);
        }
    }
}

#[test]
fn a_header_of_another_version_is_taken_for_this_one() {
    let mut record = Peer::new(AES_128).seal(23, b"data", 0);
    record[2] = 1;
    assert_eq!(read(&mut session(AES_128, 0, 0), &record, &[]), (b"data".to_vec(), None));
}

#[test]
fn some_records_without_data_pass_and_many_do_not() {
    for kind in KINDS {
        let mut peer = Peer::new(kind);
        let mut some: Vec<u8> = (0..32).flat_map(|_| peer.seal(23, b"", 0)).collect();
        some.extend(peer.seal(23, b"x", 0));
        assert_eq!(read(&mut session(kind, 0, 0), &some, &[]), (b"x".to_vec(), None));
        let mut peer = Peer::new(kind);
        let many: Vec<u8> = (0..33).flat_map(|_| peer.seal(23, b"", 0)).collect();
        let (data, end) = read(&mut session(kind, 0, 0), &many, &[]);
        assert_eq!((data.len(), end), (0, Some(End::Broken(Alert::UnexpectedMessage))));
    }
}

#[test]
fn a_key_of_aes_is_worn_before_its_limit_and_seals_nothing_beyond() {
    for kind in KINDS {
        let mut worn = session(kind, (1 << 23) - 1, 0);
        assert!(!worn.is_worn());
        sealed(&mut worn, b"x");
        let is_aes = kind.1 != Suite::ChaCha20Poly1305;
        assert_eq!(worn.is_worn(), is_aes);
        sealed(&mut worn, b"x");
        assert!(!worn.is_worn(), "it is told once");
        let mut last = session(kind, (1 << 24) - 1, 0);
        sealed(&mut last, b"x");
        let refused = last.seal(Content::Data, &mut [0; 64], 1).is_err();
        assert_eq!((refused, alert(&mut last, Alert::CloseNotify).is_err()), (is_aes, is_aes));
    }
}

#[test]
fn alerts_are_read_by_the_other_side() {
    for kind in KINDS {
        let (mut here, mut there) = (session(kind, 0, 0), mirror(kind));
        let mut say = |said| there.open(&mut alert(&mut here, said).unwrap()).end;
        assert_eq!(say(Alert::UserCanceled), None);
        assert_eq!(say(Alert::CloseNotify), Some(End::Closed));
    }
}

#[test]
fn secrets_of_another_suite_are_refused_and_none_is_shown() {
    let secrets = |bytes: &'static [u8]| Secrets { sequence: 0, key: bytes, iv: &[7; 12] };
    let (short, long) = (secrets(&[0x41; 16]), secrets(&[0x41; 32]));
    let new = |suite, sealing, opening| Session::new(Version::Tls13, suite, sealing, opening, 0);
    assert!(new(Suite::Aes128Gcm, &short, &long).is_none());
    assert!(new(Suite::Aes256Gcm, &short, &long).is_none());
    let iv = Secrets { iv: &[7; 8], ..short };
    assert!(new(Suite::Aes128Gcm, &iv, &short).is_none());
    let shown = format!("{:?}", session(AES_128, 3, 4));
    assert_eq!(shown, "Session { version: Tls13, suite: Aes128Gcm, sealed: 3, opened: 4, .. }");
}
