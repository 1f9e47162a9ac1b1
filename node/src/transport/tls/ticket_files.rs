//! The keys of tickets: files of the mounted Secret of the fleet, read at the start and again when they change.
//!
//! Tickets save clients a part of a handshake, so nothing that is wrong with their keys stops TLS: a node then goes on with
//! the keys that it has, and says so.

use std::{
    hash::{BuildHasher, RandomState},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use node_core::tls::{KeyList, TicketKeys};

use super::tickets::Tickets;
use crate::secrets::{CREDENTIAL_BYTES, SecretError, SecretFile};

/// The keys of tickets, by their name in the Secret of the fleet.
const TICKET_KEYS: &str = "tls-ticket-keys";
/// The one key that there is where nobody rotates keys.
const TICKET_KEY: &str = "tls-ticket-key";

/// Why keys of tickets cannot be used. Nothing of them is repeated.
#[derive(Debug, thiserror::Error)]
pub enum TicketsError {
    /// A file is there and cannot be read.
    #[error("{0}")]
    File(String),
    /// The file does not hold keys of tickets.
    #[error("the file {} is no list of keys of tickets; each line must have a time in seconds since 1970, a space and a key, in the order of the times", path.display())]
    List {
        /// The file.
        path: PathBuf,
    },
}

/// The key of tickets of a process that is given none. It is not shown.
struct OwnSecret([u8; 32]);

impl std::fmt::Debug for OwnSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OwnSecret")
    }
}

/// What is in the files. `None`: there is no such file.
#[derive(Hash)]
struct Texts {
    list: Result<Option<String>, String>,
    one: Result<Option<String>, String>,
}

/// The tickets of a node, and the files of their keys.
#[derive(Debug)]
pub(super) struct TicketFiles {
    /// The directory with the files. Without it, or without the files, tickets are of this process alone.
    dir: Option<PathBuf>,
    own: OwnSecret,
    tickets: Arc<Tickets>,
    /// What a client has shown that has a ticket: with another context they are other tickets.
    context: Vec<u8>,
    /// A hash of the files as they were read last.
    seen: u64,
    hasher: RandomState,
    /// The last error, so that it is told once.
    told: Option<String>,
    /// What was found and nobody has asked for yet.
    news: Option<Result<(), TicketsError>>,
}

impl TicketFiles {
    /// Reads the files, and watches for changes from then on.
    pub(super) fn start(dir: Option<PathBuf>, context: Vec<u8>) -> Self {
        let (own, hasher, texts) =
            (OwnSecret(rand::random()), RandomState::new(), Texts::read(dir.as_deref()));
        let seen = hasher.hash_one(&texts);
        let (tickets, error) = texts.tickets(dir.as_deref(), &own, &context, None);
        let told = error.as_ref().map(ToString::to_string);
        Self { dir, own, tickets, context, seen, hasher, told, news: error.map(Err) }
    }

    /// Looks at the files, for clients of another context if one is given. Tells whether the tickets are others than before.
    pub(super) fn look(&mut self, context: Option<Vec<u8>>) -> bool {
        let texts = Texts::read(self.dir.as_deref());
        let seen = self.hasher.hash_one(&texts);
        let is_read = std::mem::replace(&mut self.seen, seen) != seen;
        let context = context.filter(|context| *context != self.context);
        if !is_read && context.is_none() {
            return false;
        }
        let former = context.is_none().then(|| Arc::clone(&self.tickets));
        self.context = context.unwrap_or_else(|| std::mem::take(&mut self.context));
        let (tickets, error) = texts.tickets(self.dir.as_deref(), &self.own, &self.context, former);
        self.tickets = tickets;
        let text = error.as_ref().map(ToString::to_string);
        let told = std::mem::replace(&mut self.told, text);
        match error {
            Some(error) if self.told != told => self.news = Some(Err(error)),
            None if is_read => self.news = Some(Ok(())),
            _ => (),
        }
        true
    }

    /// Whether other keys are in force, or why they are not, since the last call.
    pub(super) const fn news(&mut self) -> Option<Result<(), TicketsError>> {
        self.news.take()
    }

    /// The tickets that are in force.
    pub(super) fn tickets(&self) -> Arc<Tickets> {
        Arc::clone(&self.tickets)
    }
}

impl Texts {
    fn read(dir: Option<&Path>) -> Self {
        let read = |name| {
            let Some(dir) = dir else { return Ok(None) };
            match SecretFile::new(dir, name, CREDENTIAL_BYTES).read() {
                Ok(text) => Ok(Some(text)),
                Err(SecretError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error.to_string()),
            }
        };
        Self { list: read(TICKET_KEYS), one: read(TICKET_KEY) }
    }

    /// The tickets of these keys. Where they cannot be used, those go on that there were, or those of the keys that can be.
    fn tickets(
        &self,
        dir: Option<&Path>,
        own: &OwnSecret,
        context: &[u8],
        former: Option<Arc<Tickets>>,
    ) -> (Arc<Tickets>, Option<TicketsError>) {
        let made = |keys| Arc::new(Tickets::new(keys));
        let rest = || {
            let key = self.one.as_ref().ok().and_then(Option::as_ref);
            made(TicketKeys::one(key.map_or(&own.0[..], String::as_bytes), context))
        };
        let error = match (&self.list, &self.one) {
            (Ok(Some(list)), _) => match KeyList::parse(list) {
                Some(list) => return (made(TicketKeys::of(&list, context)), None),
                None => TicketsError::List { path: dir.unwrap_or(Path::new("")).join(TICKET_KEYS) },
            },
            (Ok(None), Ok(_)) => return (rest(), None),
            (Err(error), _) | (Ok(None), Err(error)) => TicketsError::File(error.clone()),
        };
        (former.unwrap_or_else(rest), Some(error))
    }
}
