//! Publishing by NATS, as docs/API.md says it: what its three programs write is read, carried by a stock client of NATS, and heard.

use std::{fs, path::PathBuf, process::Command};

use node_core::{broadcast::Payload, envelope::Envelope};

use crate::{
    pages,
    support::{client::Client, nats::NatsServer, port::Port, process::Process, wait::wait},
    tokens::Mounts,
};

const TOPIC: &str = "room:é/1";
const EVENT: &str = "said";

/// A program of the page with a main function, how it is run, and the name of its file.
const PROGRAMS: [(&str, &str, &str, &[&str]); 3] = [
    (
        "python",
        "p = Publisher('prod', 'chat')\nfor n in '12':\n    s, b = p.encode('TOPIC', 'EVENT', '{\"by\":\"python\",\"n\":' + n + '}')\n    print(s, b.hex())\n",
        "publisher.py",
        &["python3"],
    ),
    (
        "js",
        "const p = new Publisher('prod', 'chat');\nfor (const n of '12') {\n  const [s, b] = p.encode('TOPIC', 'EVENT', `{\"by\":\"js\",\"n\":${n}}`);\n  console.log(s, b.toString('hex'));\n}\n",
        "publisher.cjs",
        &["node"],
    ),
    (
        "go",
        "func main() {\n\tp := NewPublisher(\"prod\", \"chat\")\n\tfor _, n := range \"12\" {\n\t\ts, b := p.Encode(\"TOPIC\", \"EVENT\", `{\"by\":\"go\",\"n\":`+string(n)+`}`)\n\t\tfmt.Printf(\"%s %x\\n\", s, b)\n\t}\n}\n",
        "publisher.go",
        &["go", "run"],
    ),
];

/// The subjects and bodies of two messages that a program of the page writes.
fn written(language: &str, main: &str, file: &str, run: &[&str]) -> Vec<(String, Vec<u8>)> {
    let page = pages::page("docs/API.md");
    let block = page.split(&format!("```{language}\n")).nth(1).and_then(|rest| rest.split_once("```"));
    let mut program = block.unwrap_or_else(|| panic!("docs/API.md has no {language}")).0.to_owned();
    program.push_str(&main.replace("TOPIC", TOPIC).replace("EVENT", EVENT));
    let program = program.replace("\t\"encoding/binary\"\n", "\t\"encoding/binary\"\n\t\"fmt\"\n");
    let dir: PathBuf = std::env::temp_dir().join(format!("channel-node-publish-{:x}", rand::random::<u64>()));
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join(file), program).unwrap();
    let [name, arguments @ ..] = run else { panic!("no program") };
    let output = Command::new(name).args(arguments).arg(dir.join(file)).output().expect("it is installed");
    fs::remove_dir_all(&dir).unwrap();
    assert!(output.status.success(), "{language}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let bytes = |hex: &str| {
        let digits = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
    };
    text.lines().map(|line| line.split_once(' ').unwrap()).map(|(s, b)| (s.to_owned(), bytes(b))).collect()
}

#[test]
fn what_a_backend_publishes_by_nats_is_heard() {
    let all: Vec<_> =
        PROGRAMS.iter().flat_map(|(language, main, file, run)| written(language, main, file, run)).collect();
    assert_eq!(all.len(), 6);
    for (index, (_, body)) in all.iter().enumerate() {
        let envelope = Envelope::decode(body).unwrap();
        let content = envelope.packed.unpack().unwrap();
        assert_eq!((content.topic, content.event, envelope.sequence), (TOPIC, EVENT, index as u64 % 2 + 1));
        assert!(matches!(content.payload, Payload::Json(_)) && envelope.sent_millis < 60_000);
    }
    let port = Port::reserve();
    let bus = NatsServer::start(&port, &[]);
    let url = bus.url();
    let mounts = Mounts::new(&format!(
        "cluster: {{namespace: prod, name: chat}}\nauth: {{anonymous: true}}\nbus: {{nats: {{urls: [\"{url}\"]}}}}\n"
    ));
    let node = Process::start(mounts.command());
    wait("the node to be ready", || node.ready() == 200);
    let (mut client, _) = Client::join(node.listen, TOPIC);
    wait("the topic to be subscribed", || node.metric("channelcluster_node_bus_topics") == Some(1.0));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let backend = async_nats::connect(url).await.unwrap();
        for (subject, body) in all {
            backend.publish(subject, body.into()).await.unwrap();
        }
        backend.flush().await.unwrap();
    });
    for by in ["python", "js", "go"] {
        for n in [1, 2] {
            let heard = client.until(|message| message[3] == EVENT);
            assert_eq!((&heard[4]["by"], &heard[4]["n"]), (&by.into(), &n.into()), "{heard}");
        }
    }
    assert_eq!(node.metric("channelcluster_node_bus_malformed_total"), Some(0.0));
    assert_eq!(node.metric("channelcluster_node_bus_gaps_total"), Some(0.0));
}
