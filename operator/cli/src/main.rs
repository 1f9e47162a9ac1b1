//! `kubectl channels`: the program.

fn main() -> std::process::ExitCode {
    kubectl_channels::main()
}
