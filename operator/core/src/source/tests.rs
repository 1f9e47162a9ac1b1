use arbtest::arbtest;

use super::{AnswerError, Answers, Figures, PrometheusSource, Queries, Vector, load, read};
use crate::backplane::Hearing;
use crate::names::Names;
use crate::pod::PodView;
use crate::samples::NodeLoad;

fn source(scrape_millis: u64) -> PrometheusSource {
    PrometheusSource {
        url: "https://prometheus.example.org:9090/a/b".to_owned(),
        queries: Queries::own("default", &Names::new("chat"), scrape_millis),
        scrape_millis,
        timeout_millis: 5_000,
        auth: None,
        tls: None,
    }
}

fn vector(result: &str) -> Result<Vector, AnswerError> {
    let body =
        format!("{{\"status\":\"success\",\"data\":{{\"resultType\":\"vector\",\"result\":{result}}}}}");
    read(200, body.as_bytes())
}

#[test]
fn the_queries_are_of_this_fleet_alone() {
    let source = source(15_000);
    assert_eq!(
        source.queries.writes,
        "max by (pod) (irate(channelcluster_node_writes_total{namespace=\"default\",pod=~\"chat-node-.+\"}[60000ms]))"
    );
    assert_eq!(source.host(), "prometheus.example.org:9090");
    assert_eq!(
        [1_000, 15_000, 30_000, 120_000].map(|of| super::tests::source(of).pause_millis()),
        [2_000, 3_750, 7_500, 10_000]
    );
}

#[test]
fn a_vector_is_read_by_pod_and_what_is_no_number_is_unknown() {
    let read = vector(
        r#"[{"metric":{"pod":"a","x":"y"},"value":[1700000000.5,"12.5"]},{"metric":{"pod":"b"},"value":[1700000000.5,"NaN"]},
            {"metric":{"pod":"c"},"value":[1700000000.5,"+Inf"]},{"metric":{"pod":"d"},"histogram":[1,{}]}]"#,
    )
    .unwrap();
    assert_eq!(read.pods.get("a"), Some(&Some(12.5)));
    assert_eq!(
        (read.pods.get("b"), read.pods.get("c"), read.pods.get("d")),
        (Some(&None), Some(&None), Some(&None))
    );
    assert!((read.at - 1_700_000_000.5).abs() < 1e-6);
    assert_eq!(vector("[]").unwrap(), Vector::default());
}

#[test]
fn an_answer_that_is_not_whole_says_nothing() {
    let said = |error: AnswerError| error.to_string();
    let twice = r#"[{"metric":{"pod":"a"},"value":[1,"1"]},{"metric":{"pod":"a"},"value":[1,"2"]}]"#;
    assert!(said(vector(twice).unwrap_err()).contains("several samples of pod a"));
    assert!(
        said(vector(r#"[{"metric":{},"value":[1,"1"]}]"#).unwrap_err()).contains("without the label pod")
    );
    for (status, body, wanted) in [
        (
            400,
            r#"{"status":"error","errorType":"bad_data","error":"1:5: parse error: unexpected end"}"#,
            "it answers 400: 1:5: parse error",
        ),
        (
            503,
            r#"{"status":"error","errorType":"timeout","error":"query timed out"}"#,
            "it answers 503: query timed out",
        ),
        (200, r#"{"status":"success","data":{"resultType":"scalar","result":[1,"1"]}}"#, "gives a scalar"),
        (
            200,
            r#"{"status":"success","warnings":["1 store is away"],"data":{"resultType":"vector","result":[]}}"#,
            "not complete: 1 store is away",
        ),
        (302, "<a href=...>", "(302) is none of a Prometheus"),
        (200, "{}", "is none of a Prometheus"),
        (
            200,
            r#"{"status":"success","data":{"resultType":"vector","result":[7]}}"#,
            "is none of a Prometheus",
        ),
        (
            500,
            r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#,
            "(500) is none of a Prometheus",
        ),
    ] {
        let error = said(read(status, body.as_bytes()).unwrap_err());
        assert!(error.contains(wanted), "{body}: {error}");
    }
    // An empty list of warnings is none.
    let body =
        r#"{"status":"success","warnings":[],"infos":["x"],"data":{"resultType":"vector","result":[]}}"#;
    assert_eq!(read(200, body.as_bytes()), Ok(Vector::default()));
}

#[test]
fn no_bytes_of_a_server_panic_or_are_taken_for_figures() {
    const GOOD: &[u8] = br#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"pod":"a"},"value":[1,"1"]}]}}"#;
    arbtest(|u| {
        let mut bytes = GOOD.to_vec();
        for _ in 0..u.int_in_range(1usize..=4)? {
            let at = u.choose_index(bytes.len())?;
            bytes[at] = u.arbitrary()?;
        }
        bytes.truncate(u.int_in_range(0..=bytes.len())?);
        if let Ok(vector) = read(200, &bytes) {
            assert!(vector.pods.values().flatten().all(|number| number.is_finite()), "{vector:?}");
        }
        Ok(())
    });
}

/// Figures of pod `a`, whose sample is `age` seconds old when they are had at 1,000,000 ms.
fn figures(scrape_millis: u64, age: f64, writes: f64, connections: f64) -> Figures {
    let vector = |number: f64| Vector { at: 5_000.0, pods: [("a".to_owned(), Some(number))].into() };
    let answers = Answers {
        writes: vector(writes),
        connections: vector(connections),
        timestamps: vector(5_000.0 - age),
    };
    source(scrape_millis).figures(&answers, 1_000_000)
}

#[test]
fn a_sample_counts_for_two_scrape_intervals() {
    let fresh = figures(30_000, 20.0, 5.0, 7.0);
    assert!(fresh.knows("a", 1_000_000) && fresh.knows("a", 1_040_000) && !fresh.knows("a", 1_040_001));
    assert!(!fresh.knows("b", 1_000_000));
    assert!(!figures(30_000, 60.1, 5.0, 7.0).knows("a", 1_000_000));
    assert!(
        figures(30_000, -3_600.0, 5.0, 7.0).knows("a", 1_060_000),
        "its clock went back: no younger than new"
    );
    assert!(!figures(30_000, -3_600.0, 5.0, 7.0).knows("a", 1_060_001));
    assert!(!figures(30_000, 0.0, -1.0, 7.0).knows("a", 1_000_000), "no rate is below zero");
    let failed = fresh.after_failure("x");
    assert!(
        failed.knows("a", 1_040_000) && !failed.knows("a", 1_040_001),
        "a failure makes nothing younger or older"
    );
    // Answers come each two seconds at best.
    assert!(figures(1_000, 1.0, 5.0, 7.0).knows("a", 1_011_000));
}

#[test]
fn a_pod_that_one_answer_lacks_is_unknown() {
    let vector = |pods: &[&str]| Vector {
        at: 10.0,
        pods: pods.iter().map(|pod| ((*pod).to_owned(), Some(10.0))).collect(),
    };
    let answers = Answers {
        writes: vector(&["a", "b"]),
        connections: vector(&["b", "c"]),
        timestamps: vector(&["a", "b", "c"]),
    };
    let figures = source(30_000).figures(&answers, 0);
    assert_eq!(["a", "b", "c", "d"].map(|pod| figures.knows(pod, 0)), [false, true, false, false]);
    assert!(
        figures.sentence(&["a", "c"], 3).contains("no fresh figures of 2 of 3 ready nodes (a, c): no sample")
    );
    assert!(Figures::none(&source(30_000)).sentence(&["a"], 1).ends_with("(a): it was not asked yet"));
    assert!(figures.sentence(&["a", "b", "c", "d", "e"], 5).contains("(a, b, c and 2 more)"));
}

#[test]
fn the_nodes_own_figures_fill_no_gap() {
    let own = NodeLoad {
        ready: true,
        writes_per_second: Some(900.0),
        timely_per_second: Some(900.0),
        connections: Some(30),
        hearing: Some(Hearing::Well),
        ..NodeLoad::default()
    };
    let pod = |name: &str| PodView { name: name.to_owned(), ready: true, ..PodView::default() };
    let figures = figures(30_000, 0.0, 5.0, 7.0);
    assert_eq!(load(own, &pod("a"), None, 0), own);
    let known = load(own, &pod("a"), Some(&figures), 1_000_000);
    assert_eq!(
        (known.writes_per_second, known.connections, known.hearing),
        (Some(5.0), Some(7), Some(Hearing::Well))
    );
    let unknown = load(own, &pod("b"), Some(&figures), 1_000_000);
    assert_eq!((unknown.ready, unknown.writes_per_second, unknown.connections), (true, None, None));
    let lost = NodeLoad { hearing: Some(Hearing::Lost), ..own };
    assert_eq!(load(lost, &pod("a"), Some(&figures), 1_000_000).writes_per_second, None);
    let ended = NodeLoad::default();
    assert_eq!(load(ended, &pod("a"), Some(&figures), 1_000_000), ended, "no process, no load");
}
