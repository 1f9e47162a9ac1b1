//! `channel-node`: the life of the process, from its arguments to its exit.

// They panic where their output has no reader; see `shell::output`.
#![warn(clippy::print_stdout, clippy::print_stderr)]

use std::{
    io::IsTerminal,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, Mutex},
    time::Instant,
};

use anyhow::{Context, anyhow};
use node::{
    admin,
    api::{self, Api},
    api_keys::KeyWatch as ApiKeyWatch,
    app::{App, BUILD},
    args::{Answer, Args, EXIT_USAGE, LogFormat},
    bus::{Bus, BusState, Credentials, Identity, Shared, fleet::Fleet},
    chat_page,
    config::{self, Watch},
    environment::{self, Setting},
    failure, hooks,
    inlets::{self, Asked, Heard, Inlets},
    life::{self, Watches},
    mailbox::{BusReceiver, bus_queue},
    memory::Budget,
    pulse,
    secrets::{CREDENTIAL_BYTES, SecretFile},
    sysinfo,
    threads::{self, ShardSettings, start_shards},
    token_keys::KeyWatch,
    transport::{self, TlsError, TlsFiles, TlsWatch},
};
use node_core::{
    config::{Limits, NodeConfig},
    layout,
    limits::CLOSE_TIMEOUT_MILLIS,
    longpoll::peers::Peers,
    ws::host::Names,
};
use shell::{
    http::BACKLOG,
    output::{self, Lines},
    signals::Signals,
    socket,
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc,
};

mod allocator;

fn main() -> ExitCode {
    let args = match Args::read(std::env::args_os()) {
        Ok(args) => args,
        Err(Answer::Print(text)) => {
            output::say(text.trim_end());
            return ExitCode::SUCCESS;
        }
        Err(Answer::Wrong(text)) => return wrong(&text),
    };
    if args.print_default_config {
        output::say(config::DEFAULT.trim_end());
        return ExitCode::SUCCESS;
    }
    let settings = match environment::settings(std::env::vars_os()) {
        Ok(settings) => settings,
        Err(text) => return wrong(&text),
    };
    if let Some(file) = &args.check_config {
        return check_config(file, &settings);
    }
    let (config, watch) = match configuration(&args, settings) {
        Ok(read) => read,
        Err(text) => return wrong(&text),
    };
    let log = match log_to_stderr(&args) {
        Ok(log) => log,
        Err(text) => return wrong(&text),
    };
    let code = run(&args, config, watch).unwrap_or_else(|error| {
        tracing::error!("{error:#}");
        ExitCode::FAILURE
    });
    log.flush();
    code
}

fn wrong(text: &str) -> ExitCode {
    output::complain(format_args!("channel-node: {text}"));
    ExitCode::from(EXIT_USAGE)
}

fn check_config(file: &Path, settings: &[Setting]) -> ExitCode {
    match config::load(file, settings) {
        Ok(_) => {
            output::say(format_args!("{}: ok", file.display()));
            ExitCode::SUCCESS
        }
        Err(error) => wrong(&error.to_string()),
    }
}

fn configuration(args: &Args, settings: Vec<Setting>) -> Result<(NodeConfig, Option<Watch>), String> {
    let read = match &args.config {
        Some(path) => Watch::start(path, settings).map(|(config, watch)| (config, Some(watch))),
        None => config::without_file(NodeConfig::dev(), &settings).map(|config| (config, None)),
    };
    let (mut config, watch) = read.map_err(|error| error.to_string())?;
    config.fixed.dev = args.dev;
    if args.dev {
        // A page of another site must not reach what a developer runs, whatever its name was made to lead to. Addresses
        // are no names, and are used where the node listens for others.
        let mut addresses = args.listen_addrs().into_iter().chain(args.admin_addrs());
        let local = addresses.all(|address| address.ip().is_loopback());
        config.auth.names = if local { Names::Loopback } else { Names::Addresses };
    }
    if let Some(path) = &args.path {
        config.fixed.path.clone_from(path);
    }
    if let Some(most) = args.max_connections {
        config.limits.max_connections = most;
    }
    if args.memory_budget.is_some() {
        config.limits.memory_budget = args.memory_budget;
    }
    let errors = config.validate();
    if errors.is_empty() { Ok((config, watch)) } else { Err(errors.join(". ")) }
}

fn log_to_stderr(args: &Args) -> Result<Lines, String> {
    let filter = tracing_subscriber::EnvFilter::try_new(&args.log)
        .map_err(|error| format!("--log: {error}; write a level or target=level, like info,node=debug"))?;
    let writer =
        output::lines(std::io::stderr()).map_err(|error| format!("cannot start the log: {error}"))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer.clone())
        // It would panic where standard error is broken.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    match args.log_format.unwrap_or(if args.dev { LogFormat::Text } else { LogFormat::Json }) {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    output::log_panics();
    failure::set_log(writer.clone());
    Ok(writer)
}

fn run(args: &Args, mut config: NodeConfig, watch: Option<Watch>) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let limits =
        sysinfo::raise_nofile(config.fixed.nofile).context("cannot raise the limit of open files")?;
    let mut settings = match settings(args, &config, limits.soft)? {
        Ok(settings) => settings,
        Err(text) => return Ok(wrong(&text)),
    };
    let (token, keys) = secrets(args, &mut config)?;
    let (api_watch, api_keys) = ApiKeyWatch::start(&args.api_keys);
    let tls = tls(args)?;
    if let Some(tls) = &tls {
        settings.transport = settings.transport.with_tls(tls.identity());
    }

    // Every runtime exists before a shard starts, so that their descriptors have one number in all descriptor tables.
    let [control, admin_runtime, bus_runtime, api_runtime, hooks_runtime] = runtimes()?;
    // As PID 1 of a container a process without a handler would never see SIGTERM.
    let mut signals = control.block_on(async { Signals::new() }).context("cannot take over signals")?;
    let memory = Budget::find(args.memory_budget);
    let memory_from = memory.reason(&config);
    memory.apply(&mut config);
    let config = Arc::new(config);
    let (to_bus, from_shards) = bus_queue();
    let (outlets, heard, inlets, inquiries) = inlets::ways();
    let has_bus = config.fixed.bus.as_ref().map(|_| to_bus);
    let shards = start_shards(&settings, &config, has_bus.as_ref(), &outlets).with_context(|| {
        format!("cannot listen on {}; choose another --listen", written(settings.transport.addresses()))
    })?;
    let app = Arc::new(App {
        boot_id: settings.boot_id,
        started,
        node_name: args.node_name.clone(),
        config: Arc::clone(&config).into(),
        max_connections: args.max_connections,
        memory,
        descriptor_room: layout::connections(settings.layout, settings.nofile),
        shards: shards.handles().to_vec(),
        topics: Arc::clone(shards.topics()),
        addresses: Arc::clone(shards.addresses()),
        near: Default::default(),
        history: Default::default(),
        drain: Default::default(),
        ready: Arc::clone(shards.ready()),
        bus: config.fixed.bus.as_ref().map(|_| Arc::new(BusState::new(&config.limits))),
        token,
        api_keys: Default::default(),
        api_counts: Default::default(),
        hook_counts: Default::default(),
        key_sources: keys.sources(),
        tls: tls.as_ref().map(|tls| Arc::clone(tls.identity())),
        reloads: Default::default(),
        reload_failures: Default::default(),
    });
    app.begin_with(api_keys);
    app.tell_ready();
    let fleet = Arc::<Mutex<Fleet>>::default();
    let known = (Arc::clone(&fleet), Arc::clone(shards.peers()), outlets.listening);
    let api = Arc::new(Api::new(Arc::clone(&app), has_bus, known));
    let shared = (Arc::clone(&fleet), Arc::clone(shards.peers()), heard);
    let bus = start_bus(args, bus_runtime, &config, &app, from_shards, shared)?;
    start_api(args, api_runtime, Arc::clone(&api), inlets)?;
    start_hooks(args, hooks_runtime, Arc::clone(&app), inquiries)?;
    let admin_address = start_admin(args, admin_runtime, Arc::clone(&app), Arc::clone(&api))?;
    announce(args, &app, (shards.local_addr(), admin_address), (limits.soft, &memory_from));

    control.block_on(async {
        tokio::spawn(pulse::beat(Arc::clone(&app), fleet, bus.as_ref().map(Bus::figures)));
        let watches = Watches { config: watch, keys, tls, api: api_watch };
        live(&app, &api, watches, &mut signals).await;
    });
    shards.join();
    // After the shards, so that what they published last still goes out.
    bus.into_iter().for_each(Bus::stop);
    tracing::info!("ended");
    Ok(ExitCode::SUCCESS)
}

/// Serves until a signal, then leaves and ends everything that waits.
async fn live(app: &Arc<App>, api: &Api, watches: Watches, signals: &mut Signals) {
    life::serve(app, watches, signals).await;
    life::leave(app, signals).await;
    api.end_events().await;
    life::shut_down(app).await;
}

/// Logs the sysctls that are not as they were asked for.
fn warn_of_sysctls(config: &NodeConfig) {
    for line in sysinfo::mismatches(&config.fixed.sysctls, &sysinfo::sysctls(&config.fixed.sysctls)) {
        tracing::warn!("sysctl {line}");
    }
}

/// The admin token, which must be there, and the keys of tokens, which go into the configuration.
fn secrets(args: &Args, config: &mut NodeConfig) -> anyhow::Result<(Option<SecretFile>, KeyWatch)> {
    let token = args.secrets.as_deref().map(|dir| SecretFile::new(dir, "admin-token", CREDENTIAL_BYTES));
    token.as_ref().map(SecretFile::read).transpose()?;
    Ok((token, KeyWatch::start(&args.token_keys, &mut config.auth)?))
}

/// The certificate of the public port, where clients speak TLS.
fn tls(args: &Args) -> Result<Option<TlsWatch>, TlsError> {
    let files = |certificate: &PathBuf| TlsFiles {
        certificate: certificate.clone(),
        secrets: args.secrets.clone(),
        client_ca: args.tls_client_ca.clone(),
        client_certificates: args.tls_client_certificates,
        min_version: args.tls_min_version,
    };
    args.tls.as_ref().map(|certificate| TlsWatch::start(files(certificate))).transpose()
}

fn runtimes() -> anyhow::Result<[Runtime; 5]> {
    let start = || Builder::new_current_thread().enable_all().build().context("cannot start a runtime");
    Ok([start()?, start()?, start()?, start()?, start()?])
}

/// What the shards start with, or a sentence about flags that cannot be met here.
fn settings(args: &Args, config: &NodeConfig, nofile: u64) -> anyhow::Result<Result<ShardSettings, String>> {
    let cpus =
        std::thread::available_parallelism().context("cannot tell how many CPUs there are; use --shards")?;
    let connections = config.limits.max_connections;
    let named =
        Some(connections).filter(|most| *most != Limits::default().max_connections && threads::can_split());
    Ok(layout::decide(args.layout(named), cpus.get(), nofile).map(|layout| ShardSettings {
        transport: transport::Settings::of(args),
        layout,
        nofile,
        boot_id: rand::random(),
        node_name: args.node_name.clone(),
        version: BUILD,
        // Made once and needed until the end.
        chat_page: chat_page::page(&config.fixed.path),
        close_timeout_millis: CLOSE_TIMEOUT_MILLIS,
    }))
}

fn start_bus(
    args: &Args,
    runtime: Runtime,
    config: &NodeConfig,
    app: &App,
    commands: BusReceiver,
    (fleet, peers, api): (Arc<Mutex<Fleet>>, Arc<Peers>, mpsc::Sender<Heard>),
) -> anyhow::Result<Option<Bus>> {
    let (Some(asked), Some(state)) = (&config.fixed.bus, &app.bus) else { return Ok(None) };
    let credentials = Credentials::new(asked, args.secrets.as_deref(), &args.nats_credentials);
    let identity = Identity { node_name: args.node_name.clone(), boot_id: app.boot_id };
    let shared = Shared { state: Arc::clone(state), fleet, peers, api };
    let shards = (app.shards.clone(), Arc::clone(&app.topics));
    Bus::start(runtime, config, credentials, identity, commands, shards, shared)
        .context("cannot start the bus thread")
}

/// Starts the thread of the server API, with a port of its own if one was asked for.
fn start_api(args: &Args, runtime: Runtime, api: Arc<Api>, inlets: Inlets) -> anyhow::Result<()> {
    let addresses: Vec<_> = args.api.into_iter().collect();
    let listeners = admin_listeners(&addresses)
        .with_context(|| format!("cannot listen on {}; choose another --api", written(&addresses)))?;
    let shards = api.shards().to_vec();
    std::thread::Builder::new().name("api".to_owned()).spawn(move || {
        failure::guarded(&shards, || runtime.block_on(api::serve(api, inlets, listeners)));
    })?;
    Ok(())
}

/// Starts the thread that asks the backend.
fn start_hooks(
    args: &Args,
    runtime: Runtime,
    app: Arc<App>,
    inquiries: mpsc::Receiver<Asked>,
) -> anyhow::Result<()> {
    let (shards, secrets) = (app.shards.clone(), args.hook_secrets.clone());
    std::thread::Builder::new().name("hooks".to_owned()).spawn(move || {
        failure::guarded(&shards, || {
            runtime.block_on(hooks::serve(app, inquiries, secrets));
            Ok(())
        });
    })?;
    Ok(())
}

fn start_admin(args: &Args, runtime: Runtime, app: Arc<App>, api: Arc<Api>) -> anyhow::Result<SocketAddr> {
    let addresses = args.admin_addrs();
    let listeners = admin_listeners(&addresses)
        .with_context(|| format!("cannot listen on {}; choose another --admin", written(&addresses)))?;
    let bound = listeners.first().context("no address")?.local_addr()?;
    let shards = app.shards.clone();
    std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
        let served = runtime.block_on(admin::serve(listeners, app, api));
        // Without its admin port a node cannot be probed, drained or measured: better to end and be replaced.
        let error = served.map_or_else(|error| anyhow!(error), |()| anyhow!("it stopped"));
        tracing::error!("admin port: {error:#}");
        failure::end_process(&shards);
    })?;
    Ok(bound)
}

/// Of several addresses all but the first may be of a family that there is not here.
fn admin_listeners(addresses: &[SocketAddr]) -> std::io::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for address in addresses {
        match socket::listen(*address, BACKLOG) {
            Err(error) if !listeners.is_empty() && socket::is_absent(&error) => {}
            listener => listeners.push(listener?),
        }
    }
    Ok(listeners)
}

fn written(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}

/// Says where the node listens, what it may use and from where it has that, and which sysctls are others than asked for.
fn announce(
    args: &Args,
    app: &App,
    (listen, admin): (SocketAddr, SocketAddr),
    (nofile, memory_from): (u64, &str),
) {
    let config = app.config.load();
    warn_of_sysctls(&config);
    tracing::info!(bytes = config.limits.memory_budget, from = memory_from, "memory budget for clients");
    tracing::info!(%listen, %admin, shards = app.shards.len(), nofile, "serving");
    if args.dev {
        welcome(args, &app.config.load().fixed.path, listen, admin);
    }
}

fn welcome(args: &Args, path: &str, listen: SocketAddr, admin: SocketAddr) {
    let secure = if args.tls.is_some() { "s" } else { "" };
    output::say(format_args!("chat page   http{secure}://{listen}/"));
    output::say(format_args!("socket      ws{secure}://{listen}{path}/websocket"));
    output::say(format_args!("metrics     http://{admin}/metrics"));
    output::say("Ctrl-C stops; twice at once.");
}
