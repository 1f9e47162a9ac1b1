//! The report as a table for people.

use super::report::Report;
use super::scenario::Scenario;
use std::fmt;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = &self.counters;
        writeln!(
            f,
            "connections  {} joined of {} in {:.1} s, {} failed, {} disconnected, {} rejoined, {} stranded",
            c.joined,
            self.asked.connections,
            self.ramp_seconds,
            c.failed_connects,
            c.disconnects,
            c.rejoined,
            self.stranded
        )?;
        let seconds = self.asked.warmup + self.publish_seconds;
        let (published, unsent, rooms) = (c.published, c.unsent, self.asked.rooms);
        writeln!(f, "publishes    {published} in {seconds:.1} s to {rooms} rooms, {unsent} unsent")?;
        writeln!(
            f,
            "deliveries   {} expected, {} received, {} lost, {} duplicate; {} interrupted, {} early ({:.0}/s)",
            self.expected,
            c.received,
            c.lost,
            c.duplicates,
            c.interrupted,
            c.early,
            self.deliveries_per_second
        )?;
        writeln!(
            f,
            "{:<12} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "ms", "count", "p50", "p90", "p99", "p99.9", "max"
        )?;
        for (name, p) in [
            ("delivery", &self.latency),
            ("connect+join", &self.connect),
            ("reconnect", &self.reconnect),
            ("own lag", &self.generator_lag),
        ] {
            if p.count > 0 {
                writeln!(
                    f,
                    "{name:<12} {:>10} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>9.2}",
                    p.count, p.p50_ms, p.p90_ms, p.p99_ms, p.p999_ms, p.max_ms
                )?;
            }
        }
        write!(f, "generator    {:.2} s CPU, {} workers", self.generator_cpu_seconds, self.workers)?;
        match self.generator_us_per_delivery {
            Some(us) => writeln!(f, ", {us:.3} us per delivery")?,
            None => writeln!(f)?,
        }
        self.write_scenario(f)?;
        self.write_server(f)?;
        for (code, count) in &self.close_codes {
            writeln!(f, "closed       {count} with code {code}")?;
        }
        for (code, count) in &self.slow_close_codes {
            writeln!(f, "closed       {count} that did not read with code {code}")?;
        }
        for (name, count) in &self.errors {
            writeln!(f, "error        {count} x {name}")?;
        }
        for (name, growth) in self.node_metrics.iter().filter(|(_, growth)| **growth != 0.0) {
            writeln!(f, "nodes        {name} +{growth}")?;
        }
        match self.failures.as_slice() {
            [] => writeln!(f, "passed"),
            failures => writeln!(f, "FAILED       {}", failures.join("; ")),
        }
    }
}

impl Report {
    fn write_scenario(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            writeln!(
                f,
                "step         {:>8.0} publishes/s {:>9.0} deliveries/s of {:>9} owed  p99 {:>8.2} ms  lag {:>6.2} ms  \
                 {:.2} CPUs here {}{}",
                step.publishes_per_second,
                step.deliveries_per_second,
                step.owed,
                step.latency.p99_ms,
                step.lag_p99_ms,
                step.generator_cpus,
                step.server_cpus.map_or_else(String::new, |cpus| format!("{cpus:.2} there ")),
                match (step.passed, step.generator_late) {
                    (true, _) => "passed",
                    (false, true) => "failed, generator late",
                    (false, false) => "failed",
                },
            )?;
        }
        if let Some(best) = &self.max {
            writeln!(
                f,
                "max          {:.0} deliveries/s at p99 {:.2} ms",
                best.deliveries_per_second, best.latency.p99_ms
            )?;
        }
        if let Some(bursts) = &self.bursts {
            writeln!(
                f,
                "last of all  median {:.2} ms, p99 {:.2} ms, max {:.2} ms over {} bursts",
                bursts.last_median_ms,
                bursts.last_p99_ms,
                bursts.last_max_ms,
                bursts.each.len()
            )?;
        }
        for storm in &self.storms {
            writeln!(
                f,
                "storm        all back after {:.2} s, {} still away, {} attempts failed",
                storm.back_seconds, storm.away, storm.failed_reconnects
            )?;
        }
        if self.asked.scenario == Scenario::Slow {
            let c = &self.counters;
            writeln!(f, "not reading  {} connections, {} ended by the server", c.slow_joined, c.slow_closed)?;
        }
        Ok(())
    }

    fn write_server(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(server) = &self.server else { return Ok(()) };
        if let Some(usage) = &server.usage {
            writeln!(
                f,
                "server       {:.2} s CPU ({:.2} user, {:.2} system), {:.3} us per delivery, {:.2} deliveries per read",
                usage.cpu_seconds,
                usage.user_seconds,
                usage.system_seconds,
                server.cpu_us_per_delivery.unwrap_or(0.0),
                self.deliveries_per_read
            )?;
        }
        if let (Some(ramped), Some(bytes)) = (&server.ramped, server.pss_bytes_per_connection) {
            writeln!(
                f,
                "server       {:.1} MB PSS with all connections, {bytes:.0} bytes per connection; {} descriptors",
                ramped.pss_bytes as f64 / 1e6,
                ramped.descriptors
            )?;
        }
        Ok(())
    }
}
