use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::{Bundle, NatsBundle, bundle, first_deployment, secret};
use crate::fixtures::{cluster, env};
use crate::validate::{Credentials, Fetched, ValidatedCluster, validate};

const PLAIN: &str = "{targetConnections: 1000, rooms: {maxMembers: 150}, auth: {anonymous: true}}";
const REPLICAS: i32 = 3;

fn valid(spec: &str) -> ValidatedCluster {
    let keys = ["username", "password"].map(str::to_owned);
    let credentials = Credentials { keys: keys.into(), labelled: true, servers: None };
    let certificate =
        Credentials { keys: ["tls.crt", "tls.key", "ca.crt"].map(str::to_owned).into(), ..token_keys() };
    let api = Credentials { keys: ["keys.yaml".to_owned()].into(), ..token_keys() };
    let hooks = Credentials { keys: ["signing-key".to_owned()].into(), ..token_keys() };
    let named = [
        ("b.keys", token_keys()),
        ("a", token_keys()),
        ("chat-tls", certificate),
        ("keys", api),
        ("hooks", hooks),
    ];
    let named_secrets = named.map(|(name, secret)| (name.to_owned(), secret)).into();
    let fetched = Fetched { credentials: Some(credentials), named_secrets, ..Fetched::default() };
    validate(&cluster(spec), &env(), &fetched).unwrap()
}

/// A Secret with keys of tokens.
fn token_keys() -> Credentials {
    Credentials { keys: ["k".to_owned()].into(), labelled: true, servers: None }
}

fn json(object: &impl serde::Serialize) -> Value {
    serde_json::to_value(object).unwrap()
}

/// Metadata of every object, with its kind.
fn metas(bundle: Bundle) -> Vec<(&'static str, ObjectMeta)> {
    let Bundle { service_account, config_map, network_policy, nats, headless, service, api, pdb, deployment } =
        bundle;
    let mut all = vec![
        ("ServiceAccount", service_account.metadata),
        ("ConfigMap", config_map.metadata),
        ("NetworkPolicy", network_policy.metadata),
        ("Service", headless.metadata),
        ("Service", service.metadata),
        ("PodDisruptionBudget", pdb.metadata),
        ("Deployment", deployment.metadata),
    ];
    all.extend(api.map(|service| ("Service", service.metadata)));
    if let Some(NatsBundle { config_map, network_policy, service, deployment }) = nats {
        all.push(("ConfigMap", config_map.metadata));
        all.push(("NetworkPolicy", network_policy.metadata));
        all.push(("Service", service.metadata));
        all.push(("Deployment", deployment.metadata));
    }
    all
}

#[test]
fn every_object_is_owned_labelled_and_named_once() {
    let cluster = valid(PLAIN);
    let mut all = metas(bundle(&cluster, REPLICAS));
    all.push(("Secret", secret(&cluster, "token", "word", "tickets").metadata));
    let mut seen = BTreeSet::new();
    for (kind, meta) in all {
        let name = meta.name.unwrap();
        assert!(seen.insert(format!("{kind}/{name}")), "{kind}/{name} twice");
        let owners = meta.owner_references.unwrap();
        assert_eq!((owners.len(), owners[0].controller), (1, Some(true)), "{kind}/{name}");
        assert_eq!(owners[0].uid, cluster.uid);
        assert_eq!(meta.namespace.as_deref(), Some("default"));
        assert_eq!(meta.labels.unwrap()["channelcluster.io/cluster"], "chat", "{kind}/{name}");
    }
    let nodes = format!("Deployment/chat-node-{}", cluster.template);
    let expected = [
        "ConfigMap/chat-config",
        "ConfigMap/chat-nats",
        "Deployment/chat-nats",
        &nodes,
        "NetworkPolicy/chat-nats",
        "NetworkPolicy/chat-node",
        "PodDisruptionBudget/chat-node",
        "Secret/chat-node",
        "Service/chat",
        "Service/chat-nats",
        "Service/chat-nodes",
        "ServiceAccount/chat-node",
    ];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected);
}

/// The checks of the `restricted` Pod Security Standard, on the pod templates.
#[test]
fn pods_are_restricted() {
    let built = bundle(&valid(PLAIN), REPLICAS);
    for deployment in [json(&built.deployment), json(&built.nats.unwrap().deployment)] {
        let pod = &deployment["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        assert_eq!(pod["automountServiceAccountToken"], false);
        for key in ["hostNetwork", "hostPID", "hostIPC"] {
            assert!(pod.get(key).is_none(), "{key}");
        }
        for container in pod["containers"].as_array().unwrap() {
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], false);
            assert_eq!(security["readOnlyRootFilesystem"], true);
            assert_eq!(security["capabilities"]["drop"], serde_json::json!(["ALL"]));
        }
        for volume in pod["volumes"].as_array().unwrap() {
            assert!(volume.get("hostPath").is_none());
        }
    }
}

#[test]
fn the_node_deployment_says_what_was_asked() {
    let spec = PLAIN.replace(
        "auth:",
        "nodes: {podLabels: {team: a}, nodeSelector: {pool: ws}}, drain: {delay: 7s, deadline: 2m}, auth:",
    );
    insta::assert_yaml_snapshot!(bundle(&valid(&spec), REPLICAS).deployment);
}

/// A template of before the server API is as it was, and one with it has its port, its keys and its Service.
#[test]
fn the_secret_of_hooks_is_mounted_and_the_backend_is_in_the_nodes_file() {
    let hooks = "hooks: {url: 'https://b.example.org/h', secretName: hooks, onFailure: Allow}";
    let policies = "policies: [{topics: 'room:*', hooks: [Join, Publish]}]";
    let spec =
        PLAIN.replace("auth:", &format!("{hooks}, auth:")).replace("150}", &format!("150, {policies}}}"));
    let (plain, cluster) = (valid(PLAIN), valid(&spec));
    assert_ne!(plain.template, cluster.template, "nodes need the Secret");
    let other = spec.replace("onFailure: Allow", "timeout: 1s").replace("[Join, Publish]", "[Join]");
    assert_eq!(valid(&other).template, cluster.template, "the rest is reloaded");
    let pod = json(&bundle(&cluster, REPLICAS).deployment)["spec"]["template"]["spec"].clone();
    let args: Vec<_> =
        pod["containers"][0]["args"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let [.., flag, directory] = *args else { panic!("{args:?}") };
    assert_eq!([flag, directory], ["--hook-secrets", "/etc/channelcluster/hooks"]);
    let volumes = pod["volumes"].as_array().unwrap();
    assert!(volumes.iter().any(|volume| volume["secret"]["secretName"] == "hooks"));
    let asked = cluster.config.hooks.as_ref().unwrap();
    assert_eq!((asked.timeout_millis, asked.max_in_flight), (2_000, 256));
    assert_eq!(cluster.config.rooms.policies[0].hooks.len(), 2);
    assert!(plain.config.hooks.is_none() && !plain.config_file.contains("hooks"));
}

#[test]
fn the_server_api_has_a_service_of_its_own_where_the_manifest_says_so() {
    let spec = PLAIN.replace("auth:", "expose: {api: {secretName: keys, port: 8088}}, auth:");
    let (plain, cluster) = (valid(PLAIN), valid(&spec));
    assert!(bundle(&plain, REPLICAS).api.is_none() && plain.template != cluster.template);
    let built = bundle(&cluster, REPLICAS);
    let service = json(&built.api.unwrap());
    assert_eq!(service["metadata"]["name"], "chat-api");
    let port = &service["spec"]["ports"][0];
    assert_eq!((&port["port"], &port["targetPort"]), (&8_088.into(), &"api".into()));
    let pod = json(&built.deployment)["spec"]["template"]["spec"].clone();
    let container = &pod["containers"][0];
    let args: Vec<_> = container["args"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let [.., api, address, keys, file] = *args else { panic!("{args:?}") };
    assert_eq!(
        [api, address, keys, file],
        ["--api", "[::]:9401", "--api-keys", "/etc/channelcluster/api/keys.yaml"]
    );
    assert_eq!(container["ports"][2]["containerPort"], 9_401);
    let volumes = pod["volumes"].as_array().unwrap();
    assert!(volumes.iter().any(|volume| volume["secret"]["secretName"] == "keys"));
    let rules = json(&built.network_policy)["spec"]["ingress"].clone();
    assert_eq!(rules[2]["ports"][0]["port"], 9_401);
    assert_eq!(rules[2]["from"][0]["podSelector"], serde_json::json!({}), "pods of the namespace");
}

#[test]
fn the_services_say_what_was_asked() {
    let spec = PLAIN.replace("auth:", "expose: {service: {type: LoadBalancer, port: 8080}}, auth:");
    let built = bundle(&valid(&spec), REPLICAS);
    insta::assert_yaml_snapshot!([built.service, built.headless]);
}

#[test]
fn the_managed_nats_wants_a_password_and_never_holds_it_in_its_file() {
    let cluster = valid(PLAIN);
    let nats = bundle(&cluster, REPLICAS).nats.unwrap();
    insta::assert_yaml_snapshot!((nats.config_map, nats.service, nats.deployment));
    let made = json(&secret(&cluster, "token", "0123", "tickets"));
    // With a digit in front NATS's grammar would read it as a number.
    assert_eq!(made["stringData"]["nats-password"], "p0123");
    assert_eq!(made["stringData"]["admin-token"], "token");
    assert_eq!(made["stringData"]["tls-ticket-keys"], "tickets");
}

#[test]
fn a_bus_of_the_users_gets_its_credentials_and_no_nats_of_ours() {
    let spec = PLAIN.replace(
        "auth:",
        "backplane: {type: Nats, urls: ['nats://nats:4222'], credentialsSecretRef: {name: mine}}, auth:",
    );
    let built = bundle(&valid(&spec), REPLICAS);
    assert!(built.nats.is_none());
    let pod = &json(&built.deployment)["spec"]["template"]["spec"];
    assert_eq!(pod["volumes"][2]["secret"]["secretName"], "mine");
    assert_eq!(pod["containers"][0]["volumeMounts"][2]["mountPath"], "/etc/channelcluster/nats");
}

#[test]
fn nodes_with_a_certificate_speak_tls_behind_port_443() {
    let of = |expose: &str| {
        let built = bundle(&valid(&PLAIN.replace("auth:", &format!("expose: {expose}, auth:"))), REPLICAS);
        (
            json(&built.deployment)["spec"]["template"].clone(),
            json(&built.service)["spec"]["ports"][0].clone(),
        )
    };
    let (plain, port) = of("{}");
    assert_eq!((&port["port"], &port["appProtocol"]), (&80.into(), &"kubernetes.io/ws".into()));
    let (template, port) = of("{tls: {secretName: chat-tls}}");
    assert_eq!((&port["port"], &port["appProtocol"]), (&443.into(), &"kubernetes.io/wss".into()));
    assert_eq!(port["targetPort"], "ws");
    let pod = &template["spec"];
    assert_eq!(pod["volumes"][2]["secret"]["secretName"], "chat-tls");
    assert_eq!(pod["containers"][0]["volumeMounts"][2]["mountPath"], "/etc/channelcluster/tls");
    let args = |template: &Value| template["spec"]["containers"][0]["args"].as_array().unwrap().clone();
    let added = args(&template).split_off(args(&plain).len());
    assert_eq!(added, ["--tls", "/etc/channelcluster/tls"]);
    // Probes ask the admin port, which stays plain.
    assert_eq!(pod["containers"][0]["readinessProbe"], plain["spec"]["containers"][0]["readinessProbe"]);
    let (template, port) =
        of("{tls: {secretName: chat-tls, clientCaSecretName: chat-tls}, service: {port: 8443}}");
    let added = args(&template).split_off(args(&plain).len() + 2);
    assert_eq!(added, ["--tls-client-ca", "/etc/channelcluster/client-ca/ca.crt"]);
    let (more, _) = of(
        "{tls: {secretName: chat-tls, clientCaSecretName: chat-tls, clientCertificates: Optional, minVersion: '1.2'}}",
    );
    assert_eq!(
        args(&more).split_off(args(&template).len()),
        ["--tls-client-certificates", "optional", "--tls-min-version", "1.2"]
    );
    let (usual, _) = of("{tls: {secretName: chat-tls, minVersion: '1.3'}}");
    assert_eq!(args(&usual).len(), args(&plain).len() + 2);
    assert_eq!(
        template["spec"]["containers"][0]["volumeMounts"][3]["mountPath"],
        "/etc/channelcluster/client-ca"
    );
    assert_eq!(port["port"], 8443);
}

#[test]
fn the_keys_of_tokens_are_mounted_by_the_names_of_their_secrets() {
    let jwt = |index: u8, secret: &str| {
        format!("{{issuer: i{index}, algorithms: [RS256], secretRef: {{name: {secret}, key: k}}}}")
    };
    let of = |entries: &[String]| {
        let spec = PLAIN.replace("anonymous: true", &format!("jwt: [{}]", entries.join(", ")));
        json(&bundle(&valid(&spec), REPLICAS).deployment)["spec"]["template"].clone()
    };
    let template = of(&[jwt(1, "b.keys"), jwt(2, "a"), jwt(3, "b.keys")]);
    let pod = &template["spec"];
    let secrets = pod["volumes"].as_array().unwrap()[2..].iter();
    let secrets: Vec<_> = secrets.map(|volume| (&volume["name"], &volume["secret"])).collect();
    let mode = serde_json::json!(0o440);
    let expected = |name: &str| serde_json::json!({"secretName": name, "defaultMode": mode});
    assert_eq!(secrets, [(&"jwt-0".into(), &expected("a")), (&"jwt-1".into(), &expected("b.keys"))]);
    let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap()[2..].iter();
    let mounts: Vec<_> = mounts.map(|mount| (&mount["mountPath"], &mount["readOnly"])).collect();
    let path = |name: &str| serde_json::json!(format!("/etc/channelcluster/jwt/{name}"));
    assert_eq!(mounts, [(&path("a"), &true.into()), (&path("b.keys"), &true.into())]);
    // A running node goes on when issuers change that use the same Secrets, in whatever order they are written.
    assert_eq!(of(&[jwt(4, "a"), jwt(1, "b.keys")]), template);
}

#[test]
fn a_reloadable_change_leaves_the_pod_template_alone() {
    let template =
        |spec: &str, replicas| json(&bundle(&valid(spec), replicas).deployment)["spec"]["template"].clone();
    let base = template(PLAIN, 2);
    assert_eq!(template(&PLAIN.replace("150", "151"), 2), base);
    assert_eq!(template(PLAIN, 5), base);
    assert_ne!(template(&PLAIN.replace("auth:", "tuning: {profile: None}, auth:"), 2), base);
}

#[test]
fn a_node_that_is_started_again_has_the_restart_keys_of_its_template() {
    let variables = |deployment: Deployment| -> Vec<(String, Option<String>)> {
        let containers = deployment.spec.unwrap().template.spec.unwrap().containers;
        let env = containers.into_iter().flat_map(|container| container.env.unwrap_or_default());
        let own = env.filter(|variable| variable.name.starts_with("CHANNEL_NODE__"));
        own.map(|variable| (variable.name, variable.value)).collect()
    };
    let alone = PLAIN
        .replace("auth:", "nodes: {min: 1, max: 1}, backplane: {type: None}, tuning: {nofile: 9000}, auth:");
    let alone = variables(bundle(&valid(&alone), REPLICAS).deployment);
    assert_eq!(alone[1], ("CHANNEL_NODE__BUS".to_owned(), Some("null".to_owned())), "not that of the file");
    assert_eq!(alone[3], ("CHANNEL_NODE__NOFILE".to_owned(), Some("9000".to_owned())));
    let bus = variables(bundle(&valid(PLAIN), REPLICAS).deployment)[1].1.clone().unwrap();
    assert!(bus.contains("nats://chat-nats:4222"), "{bus}");
    assert_eq!(variables(first_deployment(&valid(PLAIN), REPLICAS)), [], "its pods must stay");
    let own = PLAIN.replace("auth:", "nodes: {env: [{name: CHANNEL_NODE__NOFILE, value: '5'}]}, auth:");
    let own = variables(bundle(&valid(&own), REPLICAS).deployment);
    let nofile: Vec<_> = own.iter().filter(|(name, _)| name.ends_with("NOFILE")).collect();
    assert_eq!(nofile, [&("CHANNEL_NODE__NOFILE".to_owned(), Some("5".to_owned()))]);
}

#[test]
fn only_the_operators_namespace_and_scrapers_reach_the_admin_port() {
    let built = bundle(&valid(PLAIN), REPLICAS);
    insta::assert_yaml_snapshot!([built.network_policy, built.nats.unwrap().network_policy]);
}

/// Everything that a manifest can say of pods, for nodes and NATS alike.
const SHAPED: &str = "imagePullSecrets: [{name: registry}], priorityClassName: high, runtimeClassName: gvisor, \
    serviceAccountName: mine, topologySpreadConstraints: [{maxSkew: 2, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}], \
    env: [{name: EXTRA, value: x}, {name: CPUS, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}], userIds: Assigned, \
    podSecurityContext: {supplementalGroups: [7], fsGroupChangePolicy: OnRootMismatch}, \
    securityContext: {capabilities: {add: [NET_BIND_SERVICE]}}, resources: {limits: {cpu: 1, memory: 1Gi}}, \
    nodeSelector: {pool: ws}, tolerations: [{key: ws, operator: Exists}], \
    affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: rack}]}}, \
    podLabels: {team: a}, podAnnotations: {note: b}";

fn shaped() -> Bundle {
    let spec = PLAIN.replace("auth:", &format!("nodes: {{{SHAPED}}}, backplane: {{{SHAPED}}}, auth:"));
    bundle(&valid(&spec), REPLICAS)
}

#[test]
fn pods_are_shaped_as_the_manifest_says() {
    let built = shaped();
    insta::assert_yaml_snapshot!([
        built.deployment.spec.unwrap().template,
        built.nats.unwrap().deployment.spec.unwrap().template,
    ]);
}

/// A ResourceQuota with limits refuses any pod with a container that has no limits.
#[test]
fn every_container_of_a_fleet_can_have_limits() {
    let built = shaped();
    for deployment in [json(&built.deployment), json(&built.nats.unwrap().deployment)] {
        let pod = &deployment["spec"]["template"]["spec"];
        assert!(pod.get("initContainers").is_none());
        for container in pod["containers"].as_array().unwrap() {
            let limits = &container["resources"]["limits"];
            assert!(limits["cpu"].is_string() && limits["memory"].is_string(), "{container}");
        }
    }
}

/// Where the cluster assigns ids a pod asks for none of ours, and its user reads the secrets without a group.
#[test]
fn assigned_ids_leave_none_of_ours() {
    let built = shaped();
    for deployment in [json(&built.deployment), json(&built.nats.unwrap().deployment)] {
        assert!(!deployment.to_string().contains("65532"), "{deployment}");
        let security = &deployment["spec"]["template"]["spec"]["securityContext"];
        assert_eq!(security["runAsNonRoot"], true);
    }
    let pod = json(&built.deployment)["spec"]["template"]["spec"].clone();
    assert_eq!(pod["volumes"][1]["secret"]["defaultMode"], 0o444);
    let own = PLAIN.replace("auth:", "nodes: {podSecurityContext: {runAsUser: 1000, fsGroup: 2000}}, auth:");
    let pod = json(&bundle(&valid(&own), REPLICAS).deployment)["spec"]["template"]["spec"].clone();
    assert_eq!(pod["securityContext"]["runAsUser"], 1000);
    assert_eq!(pod["securityContext"]["runAsGroup"], 65_532);
    assert_eq!(pod["volumes"][1]["secret"]["defaultMode"], 0o440);
}

/// The managed NATS is shaped as it was before `backplane` had fields for it.
#[test]
fn nats_goes_where_the_nodes_go_unless_told_otherwise() {
    let nats = |more: &str| {
        let nodes = "nodes: {nodeSelector: {pool: ws}, tolerations: [{key: ws, operator: Exists}]}";
        let built = bundle(&valid(&PLAIN.replace("auth:", &format!("{nodes}, {more} auth:"))), REPLICAS);
        json(&built.nats.unwrap().deployment)["spec"]["template"]["spec"].clone()
    };
    let follows = nats("");
    assert_eq!(
        (&follows["nodeSelector"]["pool"], &follows["tolerations"][0]["key"]),
        (&"ws".into(), &"ws".into())
    );
    let own = nats("backplane: {nodeSelector: {}, tolerations: []},");
    assert!(own.get("nodeSelector").is_none() && own.get("tolerations").is_none(), "{own}");
}

#[test]
fn the_service_is_shaped_as_the_manifest_says() {
    let spec = PLAIN.replace(
        "auth:",
        "expose: {service: {type: LoadBalancer, annotations: {lb.example/x: y}, loadBalancerClass: example.org/lb, \
         loadBalancerSourceRanges: [192.0.2.0/24], externalTrafficPolicy: Local, ipFamilyPolicy: PreferDualStack, \
         ipFamilies: [IPv6, IPv4]}}, auth:",
    );
    insta::assert_yaml_snapshot!(bundle(&valid(&spec), REPLICAS).service);
}
