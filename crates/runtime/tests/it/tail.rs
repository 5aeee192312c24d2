//! What a worker prints and throws, with the request it belongs to (workerd.md 8).

use bytes::Bytes;
use engawa_model::{ModuleKind, Version};
use engawa_runtime::LogLevel;

use crate::support::{World, module, version, version_of};

const SCRIPT: &str = r"
export default {
  async fetch(request, env, ctx) {
    switch (new URL(request.url).pathname) {
      case '/silent': return new Response('ok');
      case '/objects': console.log('hello', { a: [1, { b: 2 }] }, null, undefined, 1.5); console.debug('quiet'); break;
      case '/error': console.error('failed:', new TypeError('a type')); break;
      case '/large': for (let n = 0; n < 300; n++) console.log('x'.repeat(1024)); break;
      case '/throw': throw new RangeError('out of range');
      case '/later': ctx.waitUntil(scheduler.wait(1).then(() => { throw new Error('after the answer'); })); break;
    }
    return new Response('ok', { status: 201 });
  },
};
";

fn project() -> Version {
    version("tail", SCRIPT, vec![])
}

#[tokio::test]
async fn what_is_printed_belongs_to_its_request() {
    let world = World::new();
    let worker = world.deploy_with(project(), true).await;
    worker.get("/objects").await;
    let log = worker.next_log().await;
    assert_eq!(log.trigger, "GET /objects");
    assert_eq!(log.ray.as_deref(), Some("1234567890abcdef-TST"));
    assert_eq!(log.status, Some(201));
    assert_eq!(log.outcome, "ok");
    let lines: Vec<_> = log
        .lines
        .iter()
        .map(|line| (line.level, line.text.as_str()))
        .collect();
    assert_eq!(
        lines,
        [
            (LogLevel::Log, r#"hello {"a":[1,{"b":2}]} null null 1.5"#),
            (LogLevel::Debug, "quiet")
        ]
    );
}

#[tokio::test]
async fn errors_are_shown_with_their_stacks() {
    let world = World::new();
    let worker = world.deploy_with(project(), true).await;
    worker.get("/error").await;
    let log = worker.next_log().await;
    assert_eq!(log.lines[0].level, LogLevel::Error);
    let text = &log.lines[0].text;
    assert!(text.starts_with("failed: TypeError: a type"), "{text}");
    assert!(text.contains("worker.js:7:"), "{text}");

    assert_eq!(worker.get("/throw").await.status, 500);
    let log = worker.next_log().await;
    assert_eq!(log.outcome, "exception");
    assert!(
        log.lines[0]
            .text
            .starts_with("Uncaught RangeError: out of range\n"),
        "{log:?}"
    );

    worker.get("/later").await;
    let log = worker.next_log().await;
    assert_eq!(log.status, Some(201));
    assert!(log.lines[0].text.contains("after the answer"), "{log:?}");
}

#[tokio::test]
async fn a_silent_request_posts_nothing() {
    let world = World::new();
    let worker = world.deploy_with(project(), true).await;
    for _ in 0..5 {
        worker.get("/silent").await;
    }
    worker.get("/objects").await;
    assert_eq!(worker.next_log().await.trigger, "GET /objects");
}

#[tokio::test]
async fn too_long_a_log_is_cut_and_the_next_one_is_whole() {
    let world = World::new();
    let worker = world.deploy_with(project(), true).await;
    worker.get("/large").await;
    let log = worker.next_log().await;
    let bytes: usize = log.lines.iter().map(|line| line.text.len()).sum();
    assert!((200_000..300_000).contains(&bytes), "{bytes}");
    assert!(
        log.lines.last().unwrap().text.contains("log"),
        "the cut is told: {:?}",
        log.lines.last()
    );
    worker.get("/objects").await;
    assert_eq!(worker.next_log().await.lines.len(), 2);
}

#[tokio::test]
async fn a_position_is_that_of_the_users_own_file() {
    // Line 3 of the bundle, `throw`, is line 12, column 5 of the TypeScript file.
    let script = "export default {\n  fetch() {\n    throw new Error('mapped');\n  },\n};\n";
    let map = r#"{"version":3,"sources":["../src/api/hello.ts"],"names":[],"mappings":";;IAWI"}"#;
    let mut code = module("functionsWorker.js", ModuleKind::EsModule, script);
    code.source_map = Some(Bytes::from_static(map.as_bytes()));
    let world = World::new();
    let worker = world
        .deploy_with(version_of("mapped", vec![code], vec![]), true)
        .await;
    assert_eq!(worker.get("/").await.status, 500);
    let text = worker.next_log().await.lines[0].text.clone();
    assert!(text.starts_with("Uncaught Error: mapped\n"), "{text}");
    assert!(text.contains("../src/api/hello.ts:12:5"), "{text}");
}
