//! The scenarios.

/// What a run does. `docs/LOAD.md` says what each one shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scenario {
    /// Connect and hold, without publishes
    Idle,
    /// Publish at a fixed rate
    #[default]
    Fanout,
    /// Search the highest rate of deliveries within a latency bound
    Max,
    /// Everybody in one room; one publish at a time, until all have it
    Burst,
    /// Connections end and come back while publishes go on
    Churn,
    /// Some connections stop reading while the others are measured
    Slow,
    /// All connections are cut at once and come back
    Storm,
    /// Batches of connections with a pause, then a hold with one delivery per second and connection
    Guide,
}
