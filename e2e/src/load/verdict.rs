//! Decides whether a run passed: its counts and figures against the bounds of its scenario.

use super::report::Report;
use super::scenario::Scenario;
use super::settings::Settings;

/// Why the run failed; empty when it passed.
pub(super) fn judge(report: &Report, settings: &Settings) -> Vec<String> {
    let mut failures = counts(report, settings);
    if report.stopped_early {
        failures.push("stopped before its end".into());
    }
    failures.extend(figures(report, settings));
    failures
}

/// Failures by counts that are too high.
fn counts(report: &Report, settings: &Settings) -> Vec<String> {
    let counters = &report.counters;
    let joined = counters.joined + counters.slow_joined;
    let never = u64::from(settings.connections).saturating_sub(joined);
    // Steps of `max` that fail overload the server; the report of each step has the connections and deliveries that
    // were lost in it.
    let overload = settings.options.scenario == Scenario::Max;
    // In `churn` the generator ends connections, which it counts apart.
    let may_end =
        settings.reconnect && (settings.options.scenario != Scenario::Churn || settings.options.reconnect);
    let checks = [
        (counters.failed_connects, 0, "connects failed"),
        (if report.stopped_early { 0 } else { never }, 0, "connections never joined their room"),
        (if overload { 0 } else { counters.lost }, settings.options.max_lost, "deliveries lost"),
        (counters.duplicates, 0, "deliveries came twice"),
        (report.stranded, 0, "connections were out of their room at the end"),
        (if may_end { 0 } else { counters.disconnects }, 0, "connections were ended"),
        (if overload { 0 } else { counters.unsent }, 0, "publishes had no joined member to send them"),
    ];
    checks
        .into_iter()
        .filter(|(count, allowed, _)| count > allowed)
        .map(|(count, allowed, what)| {
            if allowed > 0 {
                format!("{count} {what} (allowed: {allowed})")
            } else {
                format!("{count} {what}")
            }
        })
        .collect()
}

/// Failures by figures beyond their bounds. A figure that is asked for and missing fails, too.
fn figures(report: &Report, settings: &Settings) -> Vec<String> {
    let options = &settings.options;
    let mut failures = Vec::new();
    let mut above = |what: &str, bound: Option<f64>, figure: Option<f64>| match (bound, figure) {
        (Some(bound), Some(figure)) if figure > bound => {
            failures.push(format!("{what}: {figure:.1} (allowed: {bound})"));
        }
        (Some(bound), None) => failures.push(format!("{what}: not measured (allowed: {bound})")),
        _ => {}
    };
    let server = report.server.as_ref();
    let back = report.storms.iter().map(|storm| storm.back_seconds).reduce(f64::max);
    match options.scenario {
        Scenario::Max => {}
        Scenario::Burst => above(
            "p99 of the time to the last receiver in ms",
            settings.max_p99_ms,
            report.bursts.as_ref().map(|bursts| bursts.last_p99_ms),
        ),
        _ => {
            let measured = (report.latency.count > 0).then_some(report.latency.p99_ms);
            above("p99 of deliveries in ms", settings.max_p99_ms, measured);
        }
    }
    above("seconds until all were back", options.max_back, back);
    above(
        "server bytes per connection",
        options.max_bytes_per_connection,
        server.and_then(|server| server.pss_bytes_per_connection),
    );
    above(
        "growth of the server's memory in percent",
        options.max_growth,
        server.and_then(|server| server.growth_percent),
    );
    if options.perf && server.is_some_and(|server| server.user_part.is_none()) {
        failures.push("perf(1) took no samples of the server".into());
    }
    if options.scenario == Scenario::Max && !report.stopped_early {
        let found = report.max.as_ref().map_or(0.0, |step| step.deliveries_per_second);
        let least = options.min_deliveries.unwrap_or(0.0);
        if report.max.is_none() {
            failures.push("no rate passed".into());
        } else if found < least {
            failures.push(format!("{found:.0} deliveries per second at most (asked: {least})"));
        }
    }
    if let Some(bursts) = &report.bursts {
        let short = bursts.each.iter().filter(|burst| burst.received < burst.owed).count();
        if short > 0 {
            failures.push(format!("{short} bursts did not reach everybody in time"));
        }
    }
    failures
}
