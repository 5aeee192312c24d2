//! What the edge does to answers and what it refuses (pages.md 9.8), where a worker is
//! needed to see it. E1 to E3, E5 and E6 are in the gateway's `encoded.rs`, E20 to E23 in
//! its `proxy.rs`.

use engawa_testkit::TestProject;
use serde_json::json;

use crate::start;

// docs: pages.md 9.8, E4: 500 is not compressed; nor is anything else that a worker
// answers, in this version
#[test]
fn what_a_worker_answers_is_not_compressed() {
    let project = TestProject::new(&[
        (
            "wrangler.toml",
            "name = \"e\"\ncompatibility_date = \"2026-08-01\"\npages_build_output_dir = \"public\"\n",
        ),
        ("public/a.css", &"a { color: red }\n".repeat(500)),
        (
            "functions/fails.js",
            "export const onRequest = () => Response.json({ text: 'x'.repeat(5000) }, { status: 500 });\n",
        ),
        (
            "functions/asset.js",
            "export const onRequest = ({ env, request }) => env.ASSETS.fetch(new Request(new URL('/a.css', request.url), request));\n",
        ),
    ]);
    let dev = start(&project);
    for (path, status) in [("/fails", 500), ("/asset", 200)] {
        let answer = dev
            .agent()
            .get(dev.url(path))
            .header("Accept-Encoding", "br, gzip")
            .call()
            .expect("an answer");
        assert_eq!(answer.status().as_u16(), status, "{path}");
        assert!(!answer.headers().contains_key("content-encoding"), "{path}");
    }
}

// docs: pages.md 9.8, E14; workerd: api/cache.c++
#[test]
fn what_can_not_be_cached_is_refused_to_the_worker() {
    let project = TestProject::new(&[
        (
            "wrangler.toml",
            "name = \"e\"\ncompatibility_date = \"2026-08-01\"\npages_build_output_dir = \"public\"\n",
        ),
        ("public/index.html", "page"),
        (
            "functions/put.js",
            "const tried = (key, answer) => caches.default.put(key, answer).then(() => 'stored', (error) => error.name);\n\
             export const onRequest = async () => Response.json([\n\
               await tried(new Request('http://c.test/', { method: 'POST' }), new Response('a')),\n\
               await tried('http://c.test/', new Response('a', { status: 206 })),\n\
               await tried('http://c.test/', new Response('a', { headers: { vary: '*' } })),\n\
               await tried('http://c.test/', new Response('a', { headers: { 'cache-control': 'max-age=60' } })),\n\
             ]);\n",
        ),
    ]);
    let dev = start(&project);
    assert_eq!(
        dev.json("/put"),
        json!(["TypeError", "TypeError", "TypeError", "stored"])
    );
}
