//! The R2 binding as a worker sees it (workerd.md 3 and 10).

use engawa_model::BindingKind;
use serde_json::json;

use crate::support::{World, binding, version};

const SCRIPT: &str = r#"
const shown = (object) => object && {
  key: object.key, size: object.size, etag: object.etag, httpEtag: object.httpEtag,
  http: object.httpMetadata, custom: object.customMetadata, range: object.range,
  hasBody: 'body' in object, md5: object.checksums.toJSON().md5, storageClass: object.storageClass,
};
const caught = async (promise) => { try { return shown(await promise); } catch (error) { return String(error); } };
const cases = {
  async roundTrip({ R2 }) {
    const put = await R2.put('a b/é', 'hello', {
      httpMetadata: { contentType: 'text/plain', contentLanguage: 'de', cacheExpiry: new Date(1800000000000) },
      customMetadata: { owner: 'änn' },
    });
    const got = await R2.get('a b/é');
    const text = await got.text();
    const expiry = got.httpMetadata.cacheExpiry.getTime();
    const ranged = await (await R2.get('a b/é', { range: { offset: 1, length: 3 } })).text();
    const suffix = await (await R2.get('a b/é', { range: { suffix: 2 } })).text();
    return { put: shown(put), head: shown(await R2.head('a b/é')), got: shown(got), text, expiry, ranged, suffix,
      recent: Math.abs(Date.now() - got.uploaded.getTime()) < 600000, missing: await R2.get('missing') };
  },
  async conditions({ R2 }) {
    const { etag, uploaded } = await R2.put('k', 'one');
    const later = new Date(uploaded.getTime() + 5000), earlier = new Date(uploaded.getTime() - 5000);
    const get = (onlyIf) => caught(R2.get('k', { onlyIf })).then((object) => object.hasBody);
    return {
      withoutBody: shown(await R2.get('k', { onlyIf: { etagMatches: 'other' } })),
      matches: await get({ etagMatches: etag }), doesNotMatch: await get({ etagDoesNotMatch: etag }),
      after: [await get({ uploadedAfter: earlier }), await get({ uploadedAfter: later })],
      before: [await get({ uploadedBefore: later }), await get({ uploadedBefore: earlier })],
      header: await get(new Headers({ 'If-None-Match': `W/"x", ${JSON.stringify(etag)}` })),
      createOnly: await R2.put('k', 'two', { onlyIf: { etagDoesNotMatch: '*' } }),
      created: (await R2.put('new', 'x', { onlyIf: { etagDoesNotMatch: '*' } }))?.key,
      still: await (await R2.get('k')).text(),
    };
  },
  async copy({ R2 }) {
    await R2.put('k', new Uint8Array(3_000_000).fill(7), { customMetadata: { a: '1' } });
    const source = await R2.get('k');
    const copy = await R2.put('k2', source.body, { customMetadata: source.customMetadata });
    const head = await R2.head('k');
    return { same: copy.etag === head.etag, size: copy.size, custom: copy.customMetadata };
  },
  async multipart({ R2 }) {
    const part = 5 * 1024 * 1024;
    const upload = await R2.createMultipartUpload('big', { customMetadata: { m: 'é' }, httpMetadata: { contentType: 'x/y' } });
    const parts = [await upload.uploadPart(1, new Uint8Array(part).fill(1)), await upload.uploadPart(2, new Uint8Array(3).fill(2))];
    const before = await R2.head('big');
    const done = await upload.complete(parts);
    const tail = await (await R2.get('big', { range: { suffix: 4 } })).arrayBuffer();
    const aborted = await R2.createMultipartUpload('gone');
    await aborted.abort();
    return { before, done: shown(done), tail: [...new Uint8Array(tail)],
      afterAbort: await caught(aborted.uploadPart(1, 'x')), again: await caught(upload.complete(parts)) };
  },
  async list({ R2 }) {
    for (const key of ['a/1', 'a/2', 'b/1', 'c']) await R2.put(key, key, { customMetadata: { of: key } });
    const folders = await R2.list({ delimiter: '/' });
    const page = await R2.list({ limit: 2, include: ['customMetadata'] });
    const rest = await R2.list({ cursor: page.cursor });
    await R2.delete(['a/1', 'a/2', 'nothing']);
    return { folders: folders.delimitedPrefixes, plain: folders.objects.map((o) => o.key), truncated: page.truncated,
      page: page.objects.map((o) => [o.key, o.customMetadata.of]), rest: rest.objects.map((o) => o.key),
      left: (await R2.list()).objects.map((o) => o.key) };
  },
  async errors({ R2 }) {
    await R2.put('k', 'hello');
    return [
      await caught(R2.get('k', { range: { offset: 9 } })),
      await caught(R2.put('k', 'x', { md5: '00000000000000000000000000000000' })),
      await caught(R2.put('x'.repeat(1025), 'x')),
      await caught(R2.list({ limit: 1001 })),
      await (await R2.get('k')).text(),
    ];
  },
  async failing({ R2 }) {
    await R2.put('k', 'before');
    const fixed = new FixedLengthStream(10);
    const writer = fixed.writable.getWriter();
    writer.write(new Uint8Array(4)).then(() => writer.abort(new Error('the source failed'))).catch(() => {});
    const error = await caught(R2.put('k', fixed.readable));
    return { error: typeof error, still: await (await R2.get('k')).text() };
  },
};
export default {
  async fetch(request, env) { return Response.json(await cases[new URL(request.url).pathname.slice(1)](env)); },
};
"#;

async fn run(case: &str) -> serde_json::Value {
    let world = World::new();
    let worker = world
        .deploy(version(
            "r2",
            SCRIPT,
            vec![binding("R2", BindingKind::R2Bucket("media".into()))],
        ))
        .await;
    worker.post(&format!("/{case}"), &json!(null)).await
}

#[tokio::test]
async fn an_object_comes_back_with_its_metadata() {
    let answer = run("roundTrip").await;
    let md5 = "5d41402abc4b2a76b9719d911017c592";
    assert_eq!(answer["text"], "hello");
    assert_eq!(answer["put"]["etag"], md5);
    assert_eq!(answer["head"]["hasBody"], false);
    let got = &answer["got"];
    assert_eq!(got["httpEtag"], format!("\"{md5}\""));
    assert_eq!(got["md5"], md5);
    assert_eq!(got["size"], 5);
    assert_eq!(got["range"], json!({ "offset": 0, "length": 5 }));
    assert_eq!(got["custom"], json!({ "owner": "änn" }));
    assert_eq!(got["http"]["contentLanguage"], "de");
    assert_eq!(got["storageClass"], "Standard");
    assert_eq!(answer["expiry"], 1_800_000_000_000_u64);
    assert_eq!(answer["ranged"], "ell");
    assert_eq!(answer["suffix"], "lo");
    assert_eq!(answer["recent"], true);
    assert_eq!(answer["missing"], json!(null));
}

#[tokio::test]
async fn a_failed_condition_gives_the_object_without_its_body() {
    let answer = run("conditions").await;
    assert_eq!(answer["withoutBody"]["hasBody"], false);
    assert_eq!(answer["withoutBody"]["size"], 3);
    assert_eq!(answer["matches"], true);
    assert_eq!(answer["doesNotMatch"], false);
    assert_eq!(answer["after"], json!([true, false]));
    assert_eq!(answer["before"], json!([true, false]));
    assert_eq!(answer["header"], false);
    assert_eq!(answer["createOnly"], json!(null));
    assert_eq!(answer["created"], "new");
    assert_eq!(answer["still"], "one");
}

#[tokio::test]
async fn an_objects_body_can_be_put_under_another_key() {
    let answer = run("copy").await;
    assert_eq!(
        answer,
        json!({ "same": true, "size": 3_000_000, "custom": { "a": "1" } })
    );
}

#[tokio::test]
async fn an_object_can_be_uploaded_in_parts() {
    let answer = run("multipart").await;
    assert_eq!(answer["before"], json!(null));
    assert_eq!(answer["done"]["size"], 5 * 1024 * 1024 + 3);
    assert!(
        answer["done"]["etag"].as_str().unwrap().ends_with("-2"),
        "{answer}"
    );
    assert_eq!(answer["done"]["custom"], json!({ "m": "é" }));
    assert_eq!(answer["tail"], json!([1, 2, 2, 2]));
    let no_upload = "The specified multipart upload does not exist. (10024)";
    assert_eq!(
        answer["afterAbort"],
        format!("Error: uploadPart: {no_upload}")
    );
    assert_eq!(
        answer["again"],
        format!("Error: completeMultipartUpload: {no_upload}")
    );
}

#[tokio::test]
async fn a_list_has_folders_pages_and_metadata() {
    let answer = run("list").await;
    assert_eq!(answer["folders"], json!(["a/", "b/"]));
    assert_eq!(answer["plain"], json!(["c"]));
    assert_eq!(answer["page"], json!([["a/1", "a/1"], ["a/2", "a/2"]]));
    assert_eq!(answer["truncated"], true);
    assert_eq!(answer["rest"], json!(["b/1", "c"]));
    assert_eq!(answer["left"], json!(["b/1", "c"]));
}

// miniflare: workers/r2/errors.worker.ts
#[tokio::test]
async fn errors_have_cloudflares_texts_and_numbers() {
    let answer = run("errors").await;
    assert_eq!(
        answer[0],
        "Error: get: The requested range is not satisfiable (10039)"
    );
    let digest = answer[1].as_str().unwrap();
    assert!(
        digest.starts_with("Error: put: ") && digest.ends_with("(10037)"),
        "{digest}"
    );
    assert_eq!(
        answer[2],
        "Error: put: The specified object name is not valid. (10020)"
    );
    assert_eq!(
        answer[3],
        "Error: list: MaxKeys params must be positive integer <= 1000. (10022)"
    );
    assert_eq!(answer[4], "hello");
}

#[tokio::test]
async fn a_source_that_fails_leaves_the_object_as_it_was() {
    assert_eq!(
        run("failing").await,
        json!({ "error": "string", "still": "before" })
    );
}
