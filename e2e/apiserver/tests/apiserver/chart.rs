//! The chart, rendered and applied to a real API server: names of releases, objects that an earlier release left, and
//! the ids of pods on a cluster that assigns ids.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use apiserver::{ApiServer, Identity};
use cluster::Tool;
use cluster::run::{self, Progress};
use serde_json::{Value, json};

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/channelcluster");
const CRD: &str = "customresourcedefinition/channelclusters.channelcluster.io";

async fn helm() -> PathBuf {
    tokio::task::spawn_blocking(|| Tool::Helm.ready(&Progress::new())).await.unwrap().unwrap()
}

async fn rendered(release: &str, more: &[&str]) -> Result<Vec<Value>> {
    let mut command = Command::new(helm().await);
    command.args(["template", release, CHART, "--namespace", "here", "--kube-version", "1.34.0"]).args(more);
    let text = tokio::task::spawn_blocking(move || run::output(&mut command)).await??;
    let documents = text.split("\n---\n").filter(|text| text.contains("kind: "));
    Ok(documents.map(|text| serde_saphyr::from_str(text).unwrap()).collect())
}

fn of<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    objects.iter().find(|object| object["kind"] == kind).unwrap()
}

#[tokio::test]
async fn every_release_name_gives_names_that_the_server_takes() {
    let server = ApiServer::shared().await;
    let long = "l".repeat(53);
    let names = [
        ("channelcluster", "channel-operator".to_owned()),
        ("mine", "mine-channel-operator".to_owned()),
        ("my.rel", "my-rel-channel-operator".to_owned()),
        ("1st", "release-1st-channel-operator".to_owned()),
        (&long, "l".repeat(52)),
        ("9.1", "release-9-1-channel-operator".to_owned()),
    ];
    for (number, (release, name)) in names.into_iter().enumerate() {
        let namespace = server.namespace(&format!("name-{number}")).await.unwrap();
        let mut objects = rendered(release, &["--set", "crds.install=false"]).await.unwrap();
        for object in &mut objects {
            if object["metadata"]["namespace"] == "here" {
                object["metadata"]["namespace"] = namespace.as_str().into();
            }
        }
        assert_eq!(of(&objects, "Service")["metadata"]["name"], name);
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
        server.kubectl(&["create", "--dry-run=server", "-f", "-"], &list).await.unwrap();
    }
}

/// The output of `helm install`, which makes nothing here.
async fn installed(server: &ApiServer, release: &str, more: &[&str]) -> Result<String> {
    let mut command = Command::new(helm().await);
    command.args(["install", release, CHART, "--namespace", "default", "--dry-run=server"]).args(more);
    command.arg("--kubeconfig").arg(server.kubeconfig(Identity::Admin));
    tokio::task::spawn_blocking(move || run::output(&mut command)).await?
}

/// The cases come one after the other on a server of their own, because there is one CRD.
#[tokio::test]
async fn what_an_earlier_release_left_is_named_with_what_to_do() {
    let server = ApiServer::start().await.unwrap();
    // The rig made the CRD, and no Helm release.
    let refused = format!("{:#}", installed(&server, "mine", &[]).await.unwrap_err());
    for part in
        ["channelclusters.channelcluster.io is there and belongs to no Helm release", "crds.install=false"]
    {
        assert!(refused.contains(part), "{refused}");
    }
    installed(&server, "mine", &["--set", "crds.install=false"]).await.unwrap();

    // The CRD is handed over as the sentence says.
    let command = refused.split("this release: ").nth(1).unwrap();
    for part in command.split("&&") {
        let words: Vec<_> = part.split_whitespace().take_while(|word| !word.ends_with(':')).collect();
        let words: Vec<_> = words.into_iter().filter(|word| *word != "kubectl").collect();
        server.kubectl(&words, "").await.unwrap();
    }
    installed(&server, "mine", &[]).await.unwrap();

    // Another release has the CRD.
    let other = format!("{:#}", installed(&server, "other", &[]).await.unwrap_err());
    assert!(other.contains("belongs to release mine in namespace default"), "{other}");
    assert!(server.kubectl(&["get", CRD, "-o", "name"], "").await.is_ok());

    // It is the same with objects of the other kinds.
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "default:mine-channel-operator"}, "rules": []});
    server.kubectl(&["create", "-f", "-"], &role.to_string()).await.unwrap();
    let refused = format!("{:#}", installed(&server, "mine", &[]).await.unwrap_err());
    assert!(refused.contains("clusterrole default:mine-channel-operator is there"), "{refused}");
    // A user who installs for some namespaces may not look at objects of the whole cluster, and makes none.
    let some = ["--set", "watchNamespaces={default}"];
    installed(&server, "mine", &some).await.unwrap();

    // One namespace has one Lease of operators, so a second release there is refused.
    let labels = json!({"app.kubernetes.io/name": "channel-operator", "app.kubernetes.io/instance": "first"});
    let pod = json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "a"}]}});
    let operator = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "first-channel-operator", "namespace": "default", "labels": labels},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": pod}});
    server.kubectl(&["create", "-f", "-"], &operator.to_string()).await.unwrap();
    let refused = format!("{:#}", installed(&server, "mine", &some).await.unwrap_err());
    assert!(refused.contains("release first has an operator in namespace default already"), "{refused}");
}

#[tokio::test]
async fn the_operators_pods_are_shaped_as_the_values_say() {
    let plain = rendered("mine", &[]).await.unwrap();
    let pod = &of(&plain, "Deployment")["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsUser"], 65_532);
    assert!(pod["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"].is_object());

    let shaped = [
        "--set",
        "operator.podSecurityContext.runAsUser=null",
        "--set",
        "operator.podSecurityContext.runAsGroup=null",
        "--set",
        "operator.runtimeClassName=gvisor",
        "--set",
        "operator.priorityClassName=high",
        "--set",
        "operator.imagePullSecrets[0].name=registry",
        "--set",
        "operator.env[0].name=EXTRA,operator.env[0].value=x",
        "--set",
        "operator.resources.limits.cpu=1",
        "--set",
        "operator.topologySpreadConstraints=null",
        "--set",
        "operator.allowedImages={registry.example/rt/*,node:1}",
    ];
    let shaped = rendered("mine", &shaped).await.unwrap();
    let pod = &of(&shaped, "Deployment")["spec"]["template"]["spec"];
    let security = &pod["securityContext"];
    assert!(security.get("runAsUser").is_none() && security.get("runAsGroup").is_none(), "{security}");
    assert_eq!(security["runAsNonRoot"], true);
    assert_eq!((&pod["runtimeClassName"], &pod["priorityClassName"]), (&json!("gvisor"), &json!("high")));
    assert_eq!(pod["imagePullSecrets"], json!([{"name": "registry"}]));
    assert!(pod.get("topologySpreadConstraints").is_none());
    let container = &pod["containers"][0];
    assert!(container["env"].as_array().unwrap().contains(&json!({"name": "EXTRA", "value": "x"})));
    assert_eq!(container["resources"]["limits"], json!({"cpu": 1, "memory": "512Mi"}));
    let args = container["args"].as_array().unwrap();
    for image in ["registry.example/rt/*", "node:1"] {
        assert!(args.contains(&json!(format!("--allowed-image={image}"))), "{args:?}");
    }
    let openshift = rendered("mine", &["--api-versions", "security.openshift.io/v1"]).await.unwrap();
    let security = &of(&openshift, "Deployment")["spec"]["template"]["spec"]["securityContext"];
    assert!(security.get("runAsUser").is_none() && security.get("runAsGroup").is_none(), "{security}");
    assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault");
    let openshift =
        ["--api-versions", "security.openshift.io/v1", "--set", "operator.podSecurityContext.runAsUser=7"];
    let chosen = rendered("mine", &openshift).await.unwrap();
    assert_eq!(of(&chosen, "Deployment")["spec"]["template"]["spec"]["securityContext"]["runAsUser"], 7);
    // A value may not set a variable that the operator sets.
    assert!(rendered("mine", &["--set", "operator.env[0].name=POD_NAME"]).await.is_err());
}

/// The pod of `helm test` has the operator's own image, since every cluster with the chart can pull that one.
#[tokio::test]
async fn the_test_of_the_chart_asks_the_operator_by_its_own_image() {
    let image = ["--set", "operator.image=registry.example/operator:7"];
    let made = rendered("mine", &image).await.unwrap();
    let (pod, service) = (of(&made, "Pod"), of(&made, "Service"));
    assert_eq!(pod["metadata"]["annotations"]["helm.sh/hook"], "test");
    let container = &pod["spec"]["containers"][0];
    assert_eq!(container["image"], "registry.example/operator:7");
    let name = service["metadata"]["name"].as_str().unwrap();
    let url = format!("http://{name}.here.svc:{}/readyz", service["spec"]["ports"][0]["port"]);
    assert_eq!(container["args"], json!(["probe", url]));
    // It is no operator to those who select operators.
    let selected = service["spec"]["selector"].as_object().unwrap();
    assert!(selected.iter().any(|(key, value)| pod["metadata"]["labels"][key] != *value));
    let server = ApiServer::shared().await;
    let namespace = server.namespace("helm-test").await.unwrap();
    let restricted = ["label", "namespace", &namespace, "pod-security.kubernetes.io/enforce=restricted"];
    server.kubectl(&restricted, "").await.unwrap();
    let mut taken = pod.clone();
    taken["metadata"]["namespace"] = namespace.as_str().into();
    server.kubectl(&["create", "--dry-run=server", "-f", "-"], &taken.to_string()).await.unwrap();
    let without = rendered("mine", &["--set", "metrics.service=false"]).await.unwrap();
    assert!(without.iter().all(|object| object["kind"] != "Pod"));
}

/// No cluster of these tests has the kinds of the Prometheus operator, so they are looked at and not applied.
#[tokio::test]
async fn monitors_alerts_and_dashboards_are_made_when_values_ask_for_them() {
    let kinds = ["ServiceMonitor", "PodMonitor", "PrometheusRule"];
    let plain = rendered("mine", &[]).await.unwrap();
    assert!(plain.iter().all(|object| !kinds.iter().any(|kind| object["kind"] == *kind)));
    assert!(plain.iter().all(|object| object["kind"] != "ConfigMap"));
    let all = "metrics.serviceMonitor.enabled=true,metrics.podMonitor.enabled=true,metrics.prometheusRule.enabled=true,\
        metrics.dashboards.enabled=true,metrics.prometheusRule.labels.release=monitoring,metrics.podMonitor.interval=5s";
    let made = rendered("mine", &["--set", all, "--set", "watchNamespaces={a,b}"]).await.unwrap();
    let rule = of(&made, "PrometheusRule");
    let shipped = std::fs::read_to_string(format!("{CHART}/files/alerts.yaml")).unwrap();
    let shipped: Value = serde_saphyr::from_str(&shipped).unwrap();
    assert_eq!(rule["spec"], shipped, "Helm leaves the templates of Prometheus alone");
    assert_eq!(rule["metadata"]["labels"]["release"], "monitoring");
    let pods = &of(&made, "PodMonitor")["spec"];
    assert_eq!(pods["namespaceSelector"], json!({"matchNames": ["a", "b"]}));
    assert_eq!(
        pods["podMetricsEndpoints"][0],
        json!({"port": "admin", "path": "/metrics", "interval": "5s"})
    );
    let service = of(&made, "Service");
    let monitor = &of(&made, "ServiceMonitor")["spec"];
    assert_eq!(monitor["selector"]["matchLabels"], service["spec"]["selector"]);
    assert_eq!(monitor["endpoints"][0]["port"], service["spec"]["ports"][0]["name"]);
    let dashboards = of(&made, "ConfigMap");
    assert_eq!(dashboards["metadata"]["labels"]["grafana_dashboard"], "1");
    for name in ["fleet", "operator"] {
        let text = dashboards["data"][format!("channelcluster-{name}.json")].as_str().unwrap();
        let shipped = std::fs::read_to_string(format!("{CHART}/files/dashboards/{name}.json")).unwrap();
        let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(read(text), read(&shipped), "{name}");
    }
    // Without the Service there is nothing that a ServiceMonitor could select.
    let without = ["--set", "metrics.service=false,metrics.serviceMonitor.enabled=true"];
    let refused = format!("{:#}", rendered("mine", &without).await.unwrap_err());
    assert!(refused.contains("set metrics.service to true"), "{refused}");
    assert!(rendered("mine", &["--set", "metrics.podMonitor.interval=often"]).await.is_err());
}

#[tokio::test]
async fn fleets_get_an_ingress_and_a_route_where_values_ask_for_them() {
    let kinds = |objects: &[Value]| {
        objects
            .iter()
            .filter(|object| ["Ingress", "HTTPRoute"].iter().any(|kind| object["kind"] == *kind))
            .count()
    };
    assert_eq!(kinds(&rendered("mine", &[]).await.unwrap()), 0);
    let ingresses = r#"ingresses=[{"fleet":"chat","namespace":"default","host":"chat.example.org","className":"nginx",
        "tlsSecretName":"chat-tls","annotations":{"nginx.ingress.kubernetes.io/proxy-read-timeout":"3600"}},
        {"fleet":"other","host":"other.example.org","port":443}]"#;
    let routes =
        r#"httpRoutes=[{"fleet":"chat","parentRefs":[{"name":"web"}],"hostnames":["chat.example.org"]}]"#;
    let made = rendered("mine", &["--set-json", ingresses, "--set-json", routes]).await.unwrap();
    assert_eq!(kinds(&made), 3);
    let rule = &of(&made, "HTTPRoute")["spec"]["rules"][0];
    assert_eq!(rule["backendRefs"], json!([{"name": "chat", "port": 80}]));
    assert_eq!(rule.get("timeouts"), None);
    let refused = rendered("mine", &["--set-json", r#"ingresses=[{"fleet":"chat"}]"#]).await;
    assert!(
        format!("{:#}", refused.unwrap_err()).contains("host"),
        "an Ingress for every host is asked for by nobody"
    );

    // The API server takes the Ingresses; it has no kinds of the Gateway API.
    let server = ApiServer::shared().await;
    let namespace = server.namespace("ingress").await.unwrap();
    let mut objects: Vec<_> = made.into_iter().filter(|object| object["kind"] == "Ingress").collect();
    assert_eq!(objects[0]["metadata"]["namespace"], "default");
    assert_eq!(objects[1]["metadata"]["namespace"], "here", "the release's");
    for object in &mut objects {
        object["metadata"]["namespace"] = namespace.as_str().into();
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    let taken =
        server.kubectl(&["create", "--dry-run=server", "-o", "json", "-f", "-"], &list).await.unwrap();
    // kubectl prints one after the other.
    let all = serde_json::Deserializer::from_str(&taken).into_iter::<Value>();
    let specs: Vec<_> = all.map(|object| object.unwrap()["spec"].clone()).collect();
    let spec = &specs[0];
    assert_eq!(specs.len(), 2);
    assert_eq!(spec["ingressClassName"], "nginx");
    assert_eq!(spec["tls"], json!([{"hosts": ["chat.example.org"], "secretName": "chat-tls"}]));
    assert_eq!(spec["rules"][0]["http"]["paths"][0]["path"], "/socket");
}
