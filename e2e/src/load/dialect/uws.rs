//! A relay on uWebSockets: the topic is in the query, the server says `joined`, and a client's message goes verbatim
//! to all subscribers, itself included.

use super::{Control, base, parameter};

pub(super) fn path(out: &mut Vec<u8>, given: &str, topic: &str) {
    base(out, given, "/");
    parameter(out, format_args!("room={topic}"));
}

pub(super) fn control(message: &[u8]) -> Control {
    if message == b"joined" { Control::Joined } else { Control::Other }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_says_when_the_connection_has_joined() {
        assert_eq!(control(b"joined"), Control::Joined);
        assert_eq!(control(b"hello"), Control::Other);
    }
}
