//! Reads an answer to `/api/v1/query` ([HTTP API](https://prometheus.io/docs/prometheus/latest/querying/api/)).

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::words;

/// A vector with one number per pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vector {
    /// When the server computed it, in seconds since 1970 by its clock; 0 when it is empty.
    pub at: f64,
    /// The numbers by the label `pod`; none for `NaN` and the infinities.
    pub pods: HashMap<String, Option<f64>>,
}

/// Why an answer says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// The server refused the query or failed; its own words.
    #[error("it answers {status}: {words}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its words.
        words: String,
    },
    /// It answered something else than Prometheus does.
    #[error(
        "its answer ({0}) is none of a Prometheus: correct the url, which is without /api/v1, redirects are not followed"
    )]
    Foreign(u16),
    /// A part of the data was not there, in the server's own words.
    #[error("its answer is not complete: {0}")]
    Partial(String),
    /// The query gives something else than a vector.
    #[error(
        "the query gives a {0} and not a vector: write it so that it gives one sample per pod, as in sum by (pod) (...)"
    )]
    NoVector(String),
    /// A sample does not name its pod.
    #[error("the query gives samples without the label pod: keep it, as in sum by (pod) (...)")]
    NoPod,
    /// Several samples have the same pod.
    #[error("the query gives several samples of pod {0}: add them up, as in sum by (pod) (...)")]
    Twice(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    status: String,
    #[serde(borrow, default)]
    data: Option<Data<'a>>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    warnings: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    result_type: String,
    #[serde(borrow)]
    result: &'a RawValue,
}

#[derive(Deserialize)]
struct Sample {
    metric: Labels,
    /// Not there in a histogram.
    #[serde(default)]
    value: Option<(f64, String)>,
}

#[derive(Deserialize)]
struct Labels {
    #[serde(default)]
    pod: Option<String>,
}

/// Reads the body of an answer with an HTTP status.
///
/// # Errors
/// [`AnswerError`]; then nothing is known.
pub fn read(status: u16, body: &[u8]) -> Result<Vector, AnswerError> {
    let foreign = |_| AnswerError::Foreign(status);
    let answer: Answer<'_> = serde_json::from_slice(body).map_err(foreign)?;
    if let Some(said) = answer.error.filter(|_| answer.status == "error") {
        return Err(AnswerError::Refused { status, words: words::short(&said) });
    }
    let data = answer.data.filter(|_| answer.status == "success" && status == 200);
    let data = data.ok_or(AnswerError::Foreign(status))?;
    if let Some(warning) = answer.warnings.iter().flatten().next() {
        return Err(AnswerError::Partial(words::short(warning)));
    }
    if data.result_type != "vector" {
        return Err(AnswerError::NoVector(words::short(&data.result_type)));
    }
    let samples: Vec<Sample> = serde_json::from_str(data.result.get()).map_err(foreign)?;
    let mut vector = Vector::default();
    for Sample { metric, value } in samples {
        let pod = metric.pod.filter(|pod| !pod.is_empty()).ok_or(AnswerError::NoPod)?;
        let number = value.and_then(|(at, text)| {
            vector.at = at;
            text.parse::<f64>().ok().filter(|number| number.is_finite())
        });
        if vector.pods.insert(pod.clone(), number).is_some() {
            return Err(AnswerError::Twice(words::short(&pod)));
        }
    }
    Ok(vector)
}
