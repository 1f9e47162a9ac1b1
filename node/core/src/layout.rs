//! How many shards a node has, and whether each has a descriptor table of its own.
//!
//! The limit of open files (`RLIMIT_NOFILE`) is a limit per descriptor *table*. Threads share the table of their
//! process unless they ask for one of their own, which needs no privilege (close_range(2) with
//! `CLOSE_RANGE_UNSHARE`), so a node whose limit is too low for its connections takes more shards and gives each a
//! table.

use crate::limits::MAX_SHARDS;

/// Whose descriptor table a shard uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tables {
    /// One for the process.
    Shared,
    /// One for each shard: the node holds more connections than its limit of open files.
    PerShard,
    /// Per shard when one table holds fewer connections than are asked or wished for.
    #[default]
    Auto,
}

/// The wishes of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asked {
    /// Number of shards.
    pub shards: Option<u8>,
    /// Connections that the node must be able to hold.
    pub max_connections: Option<u32>,
    /// Connections that the configuration names, which the node holds as far as its limit of open files lets it.
    pub wished: Option<u32>,
    /// Whose tables the shards use.
    pub tables: Tables,
}

/// The layout of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Number of shards.
    pub shards: u8,
    /// Whether each has its own descriptor table.
    pub own_tables: bool,
}

/// Descriptors of a shared table that clients never get: probes, the operator, the bus and files need theirs however
/// full the node is, or the kubelet would kill it for being full. The admin port takes up to 128 of them. Under a
/// small limit a quarter of it is kept instead.
const RESERVED: u64 = 192;
/// Descriptors of a shard's own table that clients never get, beside [`PER_SHARD`]: about 30 of the process that were
/// open when the tables were split, and room to accept a connection before it is handed to another shard.
const RESERVED_OF_OWN: u64 = 64;
/// Descriptors that each shard adds to every table: its runtime, its mailbox and the way to hand it connections.
const PER_SHARD: u64 = 6;
/// Most connections of the fullest shard in percent of an even share: the kernel spreads them by a hash.
const SPREAD_PERCENT: u64 = 102;

/// Most shards on a CPU that a node takes for connections that are wished for.
const WISHED_PER_CPU: u8 = 4;

/// Connections that a shard's table can hold in a layout, under a limit of open files.
#[must_use]
pub fn connections_per_table(layout: Layout, nofile: u64) -> u64 {
    let own = RESERVED_OF_OWN + PER_SHARD * u64::from(layout.shards);
    nofile.saturating_sub(if layout.own_tables { own } else { RESERVED.min(nofile / 4) })
}

/// Connections that all tables of a layout hold, under a limit of open files, as evenly as the kernel spreads them.
#[must_use]
pub fn connections(layout: Layout, nofile: u64) -> u64 {
    let tables = if layout.own_tables { u64::from(layout.shards) } else { 1 };
    let spread = if tables > 1 { SPREAD_PERCENT } else { 100 };
    connections_per_table(layout, nofile).saturating_mul(tables).saturating_mul(100) / spread
}

/// Decides for `cpus` CPUs and a limit of `nofile` open files.
///
/// # Errors
/// A sentence that names the flag and what would be right, when the connections asked for cannot be held.
pub fn decide(asked: Asked, cpus: usize, nofile: u64) -> Result<Layout, String> {
    let shards =
        asked.shards.unwrap_or_else(|| u8::try_from(cpus).unwrap_or(MAX_SHARDS).clamp(1, MAX_SHARDS));
    let shared = Layout { shards, own_tables: false };
    let wanted = u64::from(asked.max_connections.or(asked.wished).unwrap_or(0));
    let is_wish = asked.max_connections.is_none();
    let room = connections(shared, nofile);
    let own_tables = match asked.tables {
        Tables::Shared if wanted > room && !is_wish => {
            return Err(format!(
                "--max-connections {wanted}: one descriptor table holds {room} with a limit of {nofile} open files; \
                 use --descriptor-tables per-shard, or raise the limit"
            ));
        }
        Tables::Shared => false,
        Tables::PerShard => true,
        Tables::Auto => wanted > room,
    };
    if !own_tables {
        return Ok(shared);
    }
    let most = match asked.shards {
        Some(shards) => shards,
        // What is only wished for is not worth more threads than this on each CPU.
        None if is_wish => shards.saturating_mul(WISHED_PER_CPU).min(MAX_SHARDS),
        None => MAX_SHARDS,
    };
    let layout = |shards| Layout { shards, own_tables };
    let enough = (shards..=most).map(layout).find(|layout| connections(*layout, nofile) >= wanted);
    // Of equal ones the last counts: the fewest shards, and one table before all.
    let all = || (shards..=most).rev().map(layout).chain([shared]);
    let best = || all().max_by_key(|layout| connections(*layout, nofile)).filter(|_| is_wish);
    enough.or_else(best).ok_or_else(|| {
        let room = connections(layout(most), nofile);
        format!(
            "--max-connections {wanted}: {most} shards hold {room} with a limit of {nofile} open files; {}",
            if most < MAX_SHARDS { "leave out --shards, or raise the limit" } else { "raise the limit" }
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUTO: Asked = Asked { shards: None, max_connections: None, wished: None, tables: Tables::Auto };

    fn asked(max_connections: u32) -> Asked {
        Asked { max_connections: Some(max_connections), ..AUTO }
    }

    #[test]
    fn one_shard_per_cpu_and_one_table_while_it_is_enough() {
        let shared = |shards| Ok(Layout { shards, own_tables: false });
        assert_eq!(decide(AUTO, 2, 20_000), shared(2));
        assert_eq!(decide(AUTO, 500, 20_000), shared(MAX_SHARDS));
        assert_eq!(decide(asked(19_808), 2, 20_000), shared(2));
        assert_eq!(decide(asked(1_000_000), 8, u64::MAX), shared(8));
        assert_eq!(decide(Asked { shards: Some(5), ..AUTO }, 2, 20_000), shared(5));
    }

    #[test]
    fn more_connections_than_a_table_holds_take_a_table_per_shard() {
        let own = |shards| Ok(Layout { shards, own_tables: true });
        assert_eq!(decide(asked(19_809), 2, 20_000), own(2));
        assert_eq!(decide(asked(100_000), 2, 20_000), own(6));
        assert_eq!(decide(asked(1_000_000), 2, 20_000), own(52));
        assert_eq!(decide(Asked { tables: Tables::PerShard, ..AUTO }, 2, 20_000), own(2));
    }

    #[test]
    fn a_wish_is_met_as_far_as_the_limit_goes() {
        let own = |shards| Ok(Layout { shards, own_tables: true });
        let wish = |wished| Asked { wished: Some(wished), ..AUTO };
        assert_eq!(decide(wish(19_808), 2, 20_000), Ok(Layout { shards: 2, own_tables: false }));
        assert_eq!(decide(wish(100_000), 2, 20_000), own(6));
        assert_eq!(decide(wish(u32::MAX), 2, 20_000), own(8));
        // With a limit this low each shard more takes more from all tables than its own table adds.
        assert_eq!(decide(wish(u32::MAX), 8, 256), own(16));
        assert_eq!(decide(wish(u32::MAX), 2, 64), Ok(Layout { shards: 2, own_tables: false }));
        assert_eq!(decide(Asked { shards: Some(3), ..wish(100_000) }, 2, 20_000), own(3));
        let shared = Asked { tables: Tables::Shared, ..wish(100_000) };
        assert_eq!(decide(shared, 2, 20_000), Ok(Layout { shards: 2, own_tables: false }));
        assert_eq!(
            decide(Asked { max_connections: Some(5), ..wish(100_000) }, 2, 20_000),
            decide(asked(5), 2, 20_000)
        );
    }

    #[test]
    fn what_cannot_be_held_is_refused_with_a_remedy() {
        let shared = Asked { tables: Tables::Shared, ..asked(100_000) };
        let few = Asked { shards: Some(4), ..asked(100_000) };
        for (asked, words) in [
            (shared, "--descriptor-tables per-shard"),
            (few, "leave out --shards"),
            (asked(u32::MAX), "raise the limit"),
        ] {
            let text = decide(asked, 2, 20_000).expect_err("too many");
            assert!(text.contains("--max-connections") && text.contains(words), "{text}");
        }
    }

    #[test]
    fn a_small_limit_keeps_a_quarter() {
        let shared = Layout { shards: 2, own_tables: false };
        assert_eq!(connections_per_table(shared, 64), 48);
        assert_eq!(connections_per_table(shared, 20_000), 19_808);
        assert_eq!(connections(shared, 20_000), 19_808);
        let own = Layout { shards: 4, own_tables: true };
        assert_eq!(connections(own, 20_000), 4 * (20_000 - 64 - 24) * 100 / 102);
    }
}
