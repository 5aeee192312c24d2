//! The `engawa` program. See [`engawa::cli`].

fn main() -> std::process::ExitCode {
    engawa::cli::main()
}
