//! The results of a soak, for people and as JSON.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::{
    Millis,
    fault::Fault,
    ledger::{Ledger, Miss},
};

/// Most findings that are written out one by one; further ones are only counted.
const SHOWN: usize = 50;

/// One fault and its cost.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FaultRow {
    /// Seconds since the soak began.
    pub at_seconds: f64,
    /// Its kind.
    pub kind: &'static str,
    /// The target.
    pub target: String,
    /// How long it lasted.
    pub lasted_seconds: f64,
    /// Time from its undoing until no client missed a message, went or came back any more.
    pub recovered_seconds: f64,
    /// Misses that it explains.
    pub misses: u64,
}

/// The whole report.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The seed, which draws the same faults again.
    pub seed: u64,
    /// How long it took.
    pub minutes: f64,
    /// Clients that took part.
    pub clients: usize,
    /// Messages said.
    pub messages: u64,
    /// Messages heard.
    pub deliveries: u64,
    /// Longest time from when a message was said until it was heard, in seconds.
    pub latest_seconds: f64,
    /// The faults, in order.
    pub faults: Vec<FaultRow>,
    /// Misses by the kind of fault that explains them.
    pub misses: BTreeMap<&'static str, u64>,
    /// Ends of connections by close code; 1006 stands for an end without a code.
    pub closes: BTreeMap<u16, u64>,
    /// Longest time that a client was away, in seconds.
    pub longest_away_seconds: f64,
    /// Its 99th percentile.
    pub away_p99_seconds: f64,
    /// Misses without a cause.
    pub unexplained: u64,
    /// Messages that came late, within a connection or without a fault that held them back.
    pub disorders: u64,
    /// Messages that came twice.
    pub duplicates: u64,
    /// Why the soak failed, one sentence each; empty when it did not.
    pub failures: Vec<String>,
}

impl Report {
    /// Finds a fault for each miss. `failures` are those found during the soak, such as a client that did not come
    /// back.
    #[must_use]
    pub fn new(
        (seed, begun, ended): (u64, Millis, Millis),
        ledger: &Ledger,
        faults: &[Fault],
        until: Millis,
        mut failures: Vec<String>,
    ) -> Self {
        let mut rows: Vec<_> = faults.iter().map(|fault| row(fault, begun)).collect();
        let mut misses = BTreeMap::<_, u64>::new();
        let mut unexplained = Vec::new();
        for miss in ledger.misses(begun, until) {
            // The latest fault that can be the cause is taken: of two at once the earlier one may be over.
            match faults.iter().rposition(|fault| fault.explains(&miss)) {
                Some(index) => {
                    rows[index].misses += 1;
                    *misses.entry(faults[index].kind.name()).or_default() += 1;
                }
                None => unexplained.push(miss),
            }
        }
        let mut closes = BTreeMap::<_, u64>::new();
        ledger.ends().for_each(|(_, _, _, code)| *closes.entry(code).or_default() += 1);
        let disorders: Vec<_> = ledger
            .disorders
            .iter()
            .filter(|disorder| !faults.iter().any(|fault| fault.excuses(disorder)))
            .collect();
        let mut aways: Vec<_> = ledger.aways.iter().map(|(_, away)| *away).collect();
        aways.sort_unstable();
        let away = |share: usize| aways.get((aways.len() * share / 100).min(aways.len().saturating_sub(1)));
        failures.extend(unexplained.iter().take(SHOWN).map(|miss| missed(miss, begun)));
        failures.extend(disorders.iter().take(SHOWN).map(|disorder| format!("out of order: {disorder:?}")));
        failures.extend(ledger.duplicates.iter().take(SHOWN).map(|(publisher, number, receiver)| {
            format!("client {receiver} heard message {number} of client {publisher} twice")
        }));
        Self {
            seed,
            minutes: seconds(ended.saturating_sub(begun)) / 60.0,
            clients: ledger.clients(),
            messages: ledger.messages(),
            deliveries: ledger.deliveries,
            latest_seconds: seconds(ledger.latest),
            faults: rows,
            misses,
            closes,
            longest_away_seconds: away(100).map_or(0.0, |away| seconds(*away)),
            away_p99_seconds: away(99).map_or(0.0, |away| seconds(*away)),
            unexplained: unexplained.len() as u64,
            disorders: disorders.len() as u64,
            duplicates: ledger.duplicates.len() as u64,
            failures,
        }
    }
}

fn seconds(millis: Millis) -> f64 {
    millis as f64 / 1_000.0
}

fn row(fault: &Fault, begun: Millis) -> FaultRow {
    FaultRow {
        at_seconds: seconds(fault.from.saturating_sub(begun)),
        kind: fault.kind.name(),
        target: fault.target.clone(),
        lasted_seconds: seconds(fault.undone.saturating_sub(fault.from)),
        recovered_seconds: seconds(fault.until.saturating_sub(fault.undone)),
        misses: 0,
    }
}

fn missed(miss: &Miss, begun: Millis) -> String {
    let node = |node: &Option<String>| node.clone().unwrap_or_else(|| "an unknown node".to_owned());
    let end = miss.publisher_end.map_or_else(String::new, |(at, code)| {
        let after = seconds(at.saturating_sub(miss.at));
        format!("; its publisher's connection ended with {code} after {after:.3} s")
    });
    format!(
        "no cause: message {} of client {} on {} at {:.3} s did not come to client {} on {}{end}",
        miss.number,
        miss.publisher,
        node(&miss.from_node),
        seconds(miss.at.saturating_sub(begun)),
        miss.receiver,
        node(&miss.to_node),
    )
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "soak of {:.1} minutes, seed {}, {} clients", self.minutes, self.seed, self.clients)?;
        writeln!(
            f,
            "{:>8}  {:<14} {:>7} {:>10} {:>8}  target",
            "at s", "fault", "lasted", "recovered", "missed"
        )?;
        for row in &self.faults {
            let FaultRow { at_seconds, kind, target, lasted_seconds, recovered_seconds, misses } = row;
            writeln!(
                f,
                "{at_seconds:>8.1}  {kind:<14} {lasted_seconds:>7.1} {recovered_seconds:>10.1} {misses:>8}  {target}"
            )?;
        }
        writeln!(
            f,
            "{} messages, {} deliveries, the latest after {:.1} s",
            self.messages, self.deliveries, self.latest_seconds
        )?;
        writeln!(f, "closes by code: {:?}", self.closes)?;
        let (p99, longest) = (self.away_p99_seconds, self.longest_away_seconds);
        writeln!(f, "away between two stays: 99th percentile {p99:.1} s, longest {longest:.1} s")?;
        writeln!(f, "misses by cause: {:?}; without a cause: {}", self.misses, self.unexplained)?;
        writeln!(f, "out of order: {}, twice: {}", self.disorders, self.duplicates)?;
        self.failures.iter().try_for_each(|failure| writeln!(f, "FAILED {failure}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soak::fault::Kind;

    #[test]
    fn each_miss_is_put_to_a_fault_or_is_a_failure() {
        let mut ledger = Ledger::new(2, 10);
        ledger.joined(0, Some("a"), 0);
        ledger.joined(1, Some("b"), 0);
        for at in [5_000, 12_000] {
            let number = ledger.says(0, at).expect("there");
            ledger.hears(0, 0, number, at);
        }
        let fault =
            Fault { kind: Kind::DeleteNats, target: "n".into(), from: 11_500, undone: 11_500, until: 13_000 };
        let report = Report::new((7, 0, 60_000), &ledger, std::slice::from_ref(&fault), 50_000, Vec::new());
        assert_eq!((report.misses["delete-nats"], report.faults[0].misses, report.unexplained), (1, 1, 1));
        let [failure] = report.failures.as_slice() else { panic!("{:?}", report.failures) };
        assert!(
            failure.contains("message 0 of client 0 on a at 5.000 s did not come to client 1 on b"),
            "{failure}"
        );
        let text = report.to_string();
        assert!(text.contains("delete-nats") && text.contains("FAILED no cause"), "{text}");
        let stranded =
            Report::new((7, 0, 1), &Ledger::new(1, 1), &[], 0, vec!["client 0 is away".to_owned()]);
        assert_eq!(stranded.failures, ["client 0 is away"]);
    }
}
