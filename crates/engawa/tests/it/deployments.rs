//! The deployments that `engawa dev` keeps, and `engawa workerd-config`.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use engawa_testkit::{TestProject, engawa, output, wait_until};

use crate::{program, project, start};

fn workerd_config(project: &TestProject, arguments: &[&str]) -> (bool, String, String) {
    let mut command: Command = engawa(program());
    command.arg("workerd-config").args(arguments);
    output(command.args(["--cwd"]).arg(project.path()))
}

/// The deployments that are named when one is asked for that there is not, newest first.
fn kept(project: &TestProject) -> Vec<String> {
    let (found, _, said) = workerd_config(project, &["none-like-this"]);
    assert!(!found);
    said.lines()
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .map(str::to_owned)
        .collect()
}

fn files(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            files(&entry.path(), found);
        } else {
            found.insert(std::fs::read_to_string(entry.path()).unwrap_or_default());
        }
    }
}

#[test]
fn the_last_five_are_kept_and_what_workerd_is_told_can_be_printed() {
    let page = |number: u32| format!("<h1>page {number}</h1>");
    let project = project(&[
        ("public/index.html", &page(0)),
        (
            "functions/f.js",
            "export const onRequest = () => new Response('of the function');",
        ),
        (".dev.vars", "KEY=hunter2\n"),
    ]);
    let (found, _, said) = workerd_config(&project, &[]);
    assert!(
        !found && said.contains("No deployment is kept here yet"),
        "{said}"
    );

    let mut dev = start(&project);
    for number in 1..=6 {
        project.write("public/index.html", page(number));
        wait_until("the edit", || dev.get("/").1.contains(&page(number)));
        // It is served before it is kept.
        let expected = 5.min(number as usize + 1);
        wait_until("its place among those that are kept", || {
            let mut stored = BTreeSet::new();
            files(
                &project.path().join(".engawa/accounts/local/assets"),
                &mut stored,
            );
            let pages = stored.iter().filter(|text| text.contains("<h1>page"));
            stored.contains(&page(number)) && pages.count() == expected
        });
    }
    let while_it_runs = kept(&project);
    assert_eq!(while_it_runs.len(), 5);
    dev.signal("TERM");
    assert!(dev.wait().success());
    assert_eq!(kept(&project), while_it_runs);

    let newest = &while_it_runs[0];
    let (found, text, said) = workerd_config(&project, &[&newest[..8]]);
    assert!(found, "{said}");
    for part in [
        "const config :Workerd.Config",
        "compatibilityDate = \"2026-08-01\"",
        "(name = \"GREETING\", text = \"hello\")",
        "(name = \"KEY\", text = \"(secret)\")",
        "kvNamespace",
        "r2Bucket",
        "cloudflare-internal:d1-api",
        "engawa:analytics",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("hunter2"));
    assert_eq!(workerd_config(&project, &[]).1, text);
    // No file of the state folder has the secret.
    let mut stored = Vec::new();
    for name in ["catalog.sqlite", "catalog.sqlite-wal"] {
        stored.extend(std::fs::read(project.path().join(".engawa").join(name)).unwrap_or_default());
    }
    assert!(stored.windows(8).any(|window| window == b"GREETING"));
    assert!(!stored.windows(7).any(|window| window == b"hunter2"));
}
