//! A failed build as a browser shows it.

use std::process::Command;

use engawa_testkit::{output, repository};

use crate::{project, start};
use engawa_testkit::oracle::packages;

#[test]
fn a_failed_build_lies_over_the_good_page_until_it_is_mended() {
    let Some(modules) = packages() else {
        return;
    };
    let file = "functions/hello.js";
    let project = project(&[(
        file,
        "export const onRequest = () => new Response(\"first\");\n",
    )]);
    let dev = start(&project);
    let (passed, out, err) = output(
        Command::new("node")
            .arg(repository().join("crates/engawa/tests/it/overlay.mjs"))
            .arg(dev.url(""))
            .arg(project.path().join(file))
            .arg(modules.join("playwright-core")),
    );
    assert!(passed, "{out}{err}\n{}", dev.stderr());
}
