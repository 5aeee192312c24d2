//! What a tenant writes reaches its worker byte for byte, and defines nothing else.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use engawa_model::{BindingKind, Module, ModuleKind};
use engawa_runtime::{Egress, redacted_config};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value as Json, json};

use crate::support::{World, binding, eventually, module, secret, var, version, version_of};

/// Answers what `env` and the other modules hold, and uses every binding.
const MIRROR: &str = r"
export default {
  async fetch(request, env) {
    const texts = [], stores = [], datasets = [];
    for (const [name, value] of Object.entries(env)) {
      if (typeof value === 'string') texts.push([name, value]);
      else if (typeof value.writeDataPoint === 'function') { value.writeDataPoint({ blobs: [name] }); datasets.push(name); }
      else { await value.put('name', name); stores.push(name); }
    }
    return Response.json({ texts, stores, datasets, modules });
  },
};
";

#[derive(Debug, Clone)]
struct Texts {
    vars: BTreeMap<String, String>,
    secrets: BTreeMap<String, String>,
    modules: BTreeMap<String, String>,
    datasets: BTreeMap<String, String>,
    store: String,
}

/// Any text, with what is special in Cap'n Proto text and in JavaScript more often.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[\"\\\\\n\r\t(),=\u{0}\u{1}\u{7f}\u{80}é\u{2028}😀a-z]{0,40}"
    ]
}

/// The first letter tells the kinds apart, so that no two bindings have one name.
fn texts(first: &'static str, count: usize) -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map(
        text().prop_map(move |name| format!("{first}{name}")),
        text(),
        0..count,
    )
}

fn all_texts() -> impl Strategy<Value = Texts> {
    // A specifier is a path: its separators and what is no path are workerd's business.
    let names = text().prop_map(|name| {
        format!(
            "m{}",
            name.replace(['/', '\\', '\0', '?', '#', ':', '%'], "_")
        )
    });
    let modules = prop::collection::btree_map(names, text(), 0..10);
    (
        texts("v", 20),
        texts("s", 10),
        modules,
        texts("d", 5),
        text(),
    )
        .prop_map(|(vars, secrets, modules, datasets, store)| Texts {
            vars,
            secrets,
            modules,
            datasets,
            store: format!("k{store}"),
        })
}

#[test]
fn any_text_survives_the_way_through_the_configuration() {
    let tokio = tokio::runtime::Runtime::new().unwrap();
    let config = Config {
        cases: 8,
        max_shrink_iters: 60,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&all_texts(), |texts| tokio.block_on(read_back(texts)))
        .unwrap();
}

async fn read_back(texts: Texts) -> Result<(), TestCaseError> {
    let world = World::new();
    let mut bindings: Vec<_> = texts
        .vars
        .iter()
        .map(|(name, value)| var(name, value))
        .collect();
    bindings.extend(
        texts
            .secrets
            .iter()
            .map(|(name, value)| secret(name, value)),
    );
    bindings.extend(texts.datasets.iter().map(|(name, dataset)| {
        binding(name, BindingKind::AnalyticsEngine(dataset.clone().into()))
    }));
    bindings.push(binding(
        &texts.store,
        BindingKind::KvNamespace("any".into()),
    ));

    let mut script = String::new();
    for (number, name) in texts.modules.keys().enumerate() {
        let specifier = Json::from(format!("./{name}"));
        writeln!(script, "import m{number} from {specifier};").unwrap();
    }
    let names: Vec<String> = (0..texts.modules.len())
        .map(|number| format!("m{number}"))
        .collect();
    write!(script, "const modules = [{}];\n{MIRROR}", names.join(", ")).unwrap();
    let mut modules: Vec<Module> = vec![module("worker.js", ModuleKind::EsModule, &script)];
    modules.extend(
        texts
            .modules
            .iter()
            .map(|(name, body)| module(name, ModuleKind::Text, body)),
    );

    let worker = world.deploy(version_of("mirror", modules, bindings)).await;
    let answer = worker.post("/", &json!(null)).await;
    let read = read_texts(&answer);
    let mut sent = texts.vars.clone();
    sent.extend(texts.secrets.clone());
    prop_assert_eq!(read, sent);
    prop_assert_eq!(
        &answer["modules"],
        &json!(texts.modules.values().collect::<Vec<_>>())
    );
    prop_assert_eq!(&answer["stores"], &json!([texts.store]));
    let value = world
        .storage
        .kv()
        .get(&"local".into(), &"any".into(), "name")
        .await
        .unwrap()
        .value
        .unwrap()
        .value;
    let value = value.collect(10_000).await.unwrap();
    prop_assert_eq!(value.as_ref(), texts.store.as_bytes());

    // Each dataset has the point that names its binding.
    let mut points: BTreeMap<String, String> = BTreeMap::new();
    eventually("the data points", || {
        for batch in world.events() {
            for point in batch.points {
                let name = String::from_utf8(point.blobs[0].clone().unwrap()).unwrap();
                points.insert(name, batch.dataset.as_str().to_owned());
            }
        }
        (points.len() == texts.datasets.len()).then_some(())
    })
    .await;
    prop_assert_eq!(&points, &texts.datasets);
    worker.pool.hurry();
    worker.pool.gone().await;
    Ok(())
}

fn read_texts(answer: &Json) -> BTreeMap<String, String> {
    let texts: Vec<(String, String)> = serde_json::from_value(answer["texts"].clone()).unwrap();
    texts.into_iter().collect()
}

#[tokio::test]
async fn a_hostile_var_defines_no_service() {
    let hostile = [
        "\"), (name = \"EVIL\", text = \"x",
        "\\\"), (name = \"EVIL\", text = \\\"x",
        "\"\n  ])),\n  (name = \"egress\", network = (allow = [\"private\"])), #",
        "\", service = (name = \"logs\"), x = \"",
        "\u{0}\"), (name = \"EVIL\", text = \"x\")",
        "\\x22), (name = \\x22EVIL\\x22, text = \\x22x",
        "\\u0022), (name = \\u0022EVIL\\u0022",
        "embed \"/proc/self/environ\"",
        "# a comment\r\n);",
    ];
    let world = World::new();
    let bindings = hostile.iter().enumerate().flat_map(|(n, text)| {
        [
            var(&format!("V{n}"), text),
            secret(&format!("S{n}{text}"), text),
        ]
    });
    let version = version(
        "hostile",
        &format!("const modules = [];\n{MIRROR}"),
        bindings.collect(),
    );
    let worker = world.deploy(version).await;
    let answer = worker.post("/", &json!(null)).await;
    let read = read_texts(&answer);
    let mut sent = BTreeMap::new();
    for (n, text) in hostile.into_iter().enumerate() {
        sent.insert(format!("V{n}"), text.to_owned());
        sent.insert(format!("S{n}{text}"), text.to_owned());
    }
    assert_eq!(read, sent);
}

#[tokio::test]
async fn the_configuration_for_people_shows_no_secret() {
    let version = version(
        "shown",
        "export default {};",
        vec![var("OPEN", "to everyone"), secret("KEY", "hunter2")],
    )
    .into();
    let worker: &std::sync::Arc<engawa_model::Version> = &version;
    let code = worker.worker.as_ref().unwrap();
    let text = redacted_config(worker, code, Egress::development());
    assert!(text.contains("to everyone"), "{text}");
    assert!(text.contains("\"KEY\""), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}
