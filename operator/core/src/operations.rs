//! Operations, which change a fleet over several looks: one file for each type, and [`arbiter`], which decides which
//! of them runs and gives it its share of the fleet's budget for closing connections.

pub mod arbiter;
pub mod budget;
pub mod plan;
pub mod scale_in;
#[cfg(test)]
mod simulation;
