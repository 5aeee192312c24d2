//! The application that Engawa was specified for, as its users meet it: over HTTP, and in
//! a real browser. `cargo xtask test` builds its export and installs the browser first.

use std::path::PathBuf;
use std::process::Command;

use engawa_testkit::{Dev, engawa, output, repository};

use crate::program;

fn chat() -> PathBuf {
    let dir = repository().join("examples/chat");
    assert!(
        dir.join("out/index.html").is_file(),
        "examples/chat is not exported: run `npm ci && npm run build:cf` in it"
    );
    dir
}

/// The chat with its migrations applied, on a state folder of its own.
fn serve(state: &tempfile::TempDir) -> Dev {
    let (dir, state) = (
        chat(),
        state
            .path()
            .to_str()
            .expect("a temporary folder's name is text"),
    );
    let mut migrate = engawa(program());
    migrate
        .args([
            "d1",
            "migrations",
            "apply",
            "next-mastra-chat",
            "--local",
            "--persist-to",
            state,
            "--cwd",
        ])
        .arg(&dir);
    let (applied, _, said) = output(&mut migrate);
    assert!(applied, "{said}");
    let dev = Dev::start_with(program(), &dir, &["--persist-to", state]);
    assert!(!dev.stderr().contains("pending"), "{}", dev.stderr());
    dev
}

fn node(script: &str, arguments: &[&str]) {
    let (passed, out, err) = output(
        Command::new("node")
            .arg(chat().join("scripts").join(script))
            .args(arguments),
    );
    assert!(passed, "{script}:\n{out}{err}");
}

#[test]
fn the_chat_does_all_that_it_promises_over_http() {
    let state = tempfile::tempdir().expect("a temporary folder");
    let dev = serve(&state);
    node("smoke.mjs", &[&dev.url("")]);
}

#[test]
fn the_chat_works_in_a_browser_on_a_desktop_and_on_a_phone() {
    let state = tempfile::tempdir().expect("a temporary folder");
    let dev = serve(&state);
    let packages = std::env::var("ENGAWA_TEST_NPM").unwrap_or_else(|_| {
        format!(
            "{}/.cache/engawa/test-packages",
            std::env::var("HOME").expect("HOME is set")
        )
    });
    let shots = state.path().join("shots");
    std::fs::create_dir(&shots).expect("a folder");
    let playwright = format!("{packages}/node_modules/playwright-core");
    node(
        "browser.mjs",
        &[
            &dev.url(""),
            shots.to_str().expect("its name is text"),
            &playwright,
        ],
    );
}
