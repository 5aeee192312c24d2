use proptest::prelude::*;

use super::super::list::{Entry, Ordered, Plan};
use super::*;

/// Keys in memory, with a count of the steps that a walk takes.
struct Model<'a> {
    keys: &'a [String],
    at: usize,
    steps: usize,
}

impl Ordered for Model<'_> {
    fn seek(&mut self, from: &[u8]) -> Result<(), Error> {
        self.at = self.keys.partition_point(|key| key.as_bytes() < from);
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Entry>, Error> {
        self.steps += 1;
        let key = self.keys.get(self.at);
        self.at += 1;
        Ok(key.map(|key| Entry {
            identity: key.clone().into_bytes(),
            object: named(key),
        }))
    }
}

fn named(key: &str) -> R2Object {
    R2Object {
        key: key.to_owned(),
        version: String::new(),
        size_bytes: 0,
        etag: String::new(),
        uploaded_ms: 0,
        checksums: Digests::default(),
        http_metadata: HttpMetadata::default(),
        custom_metadata: Vec::new(),
        storage_class: StorageClass::Standard,
        ssec_key_md5: None,
    }
}

fn page(keys: &[String], request: &R2ListRequest) -> (R2List, usize) {
    let mut model = Model {
        keys,
        at: 0,
        steps: 0,
    };
    let plan = Plan::new(request, str::to_owned).unwrap();
    (plan.run(&mut model).unwrap(), model.steps)
}

/// What a list of everything gives, in the plainest way.
fn naive(keys: &[String], request: &R2ListRequest) -> (Vec<String>, Vec<String>) {
    let (mut objects, mut prefixes) = (Vec::new(), Vec::new());
    for key in keys {
        if !key.starts_with(&request.prefix)
            || request
                .start_after
                .as_ref()
                .is_some_and(|after| key <= after)
        {
            continue;
        }
        let rest = &key[request.prefix.len()..];
        match rest.find(&request.delimiter) {
            Some(at) if !request.delimiter.is_empty() => {
                let end = request.prefix.len() + at + request.delimiter.len();
                if prefixes.last().is_none_or(|last| *last != key[..end]) {
                    prefixes.push(key[..end].to_owned());
                }
            }
            _ => objects.push(key.clone()),
        }
    }
    (objects, prefixes)
}

proptest! {
    // docs: r2 workers api, "list": any size of page gives the same whole
    #[test]
    fn pages_of_any_size_add_up_to_the_naive_list(
        keys in proptest::collection::btree_set("[ab/\u{ffff}\u{10000}]{0,6}", 0..40),
        prefix in "[ab/]{0,2}",
        delimiter in "[a/]{0,2}",
        start_after in proptest::option::of("[ab/\u{10000}]{0,4}"),
        limit in 1_i64..6,
    ) {
        let keys: Vec<String> = keys.into_iter().collect();
        let mut request = R2ListRequest {
            prefix,
            delimiter,
            start_after,
            limit: Some(limit),
            ..R2ListRequest::default()
        };
        let expected = naive(&keys, &request);
        let (mut objects, mut prefixes) = (Vec::new(), Vec::new());
        loop {
            let (page, _) = page(&keys, &request);
            let entries = page.objects.len() + page.delimited_prefixes.len();
            prop_assert!(entries <= usize::try_from(limit).unwrap());
            objects.extend(page.objects.into_iter().map(|object| object.key));
            prefixes.extend(page.delimited_prefixes);
            let Some(cursor) = page.cursor else { break };
            prop_assert!(entries > 0, "a page that makes no progress");
            request.cursor = Some(cursor);
        }
        prop_assert_eq!((objects, prefixes), expected);
    }
}

proptest! {
    // miniflare: test/plugins/r2/index.spec.ts "list: returns keys inserted whilst paginating"
    #[test]
    fn a_page_has_what_lies_behind_the_last_one_whatever_comes_and_goes(
        keys in proptest::collection::btree_set("[ab/\u{ffff}\u{10000}]{0,4}", 0..40),
        changes in proptest::collection::vec((any::<bool>(), "[ab/\u{ffff}\u{10000}]{0,4}"), 0..60),
        limit in 1_usize..6,
    ) {
        let (mut keys, mut changes) = (keys, changes.into_iter());
        let mut request = R2ListRequest {
            limit: Some(i64::try_from(limit).unwrap()),
            ..R2ListRequest::default()
        };
        let mut last: Option<String> = None;
        loop {
            let all: Vec<String> = keys.iter().cloned().collect();
            let ahead = all.iter().filter(|key| last.as_ref().is_none_or(|last| *key > last));
            let expected: Vec<String> = ahead.take(limit).cloned().collect();
            let (page, _) = page(&all, &request);
            let listed: Vec<String> = page.objects.into_iter().map(|object| object.key).collect();
            prop_assert_eq!(&listed, &expected);
            let Some(cursor) = page.cursor else { break };
            last = listed.last().cloned();
            request.cursor = Some(cursor);
            for (is_put, key) in changes.by_ref().take(3) {
                if is_put {
                    keys.insert(key);
                } else {
                    keys.remove(&key);
                }
            }
        }
    }
}

// storage.md 3.5: "the cursor after a prefix must skip the whole group"
#[test]
fn a_group_costs_one_step_however_many_keys_it_has() {
    let mut keys: Vec<String> = (0..10_000).map(|n| format!("a/{n:05}")).collect();
    keys.push("b".into());
    let request = R2ListRequest {
        delimiter: "/".into(),
        ..R2ListRequest::default()
    };
    let (list, steps) = page(&keys, &request);
    assert_eq!(list.delimited_prefixes, ["a/"]);
    assert_eq!(list.objects[0].key, "b");
    assert_eq!(steps, 3);
}

// storage.md 3.5: "the greater of cursor position and startAfter wins"
#[test]
fn the_greater_of_cursor_and_start_after_counts() {
    let keys: Vec<String> = ["a", "b", "c", "d"].map(String::from).to_vec();
    let mut request = R2ListRequest {
        limit: Some(1),
        ..R2ListRequest::default()
    };
    let cursor = page(&keys, &request).0.cursor;
    request.cursor = cursor;
    for (after, expected) in [("", "b"), ("a", "b"), ("b", "c"), ("bb", "c")] {
        request.start_after = Some(after.into());
        assert_eq!(page(&keys, &request).0.objects[0].key, expected);
    }
}

// miniflare: r2/validator.worker.ts `limit`
#[test]
fn a_limit_outside_of_1_to_1000_is_refused() {
    for limit in [0, -1, 1001, i64::MAX] {
        let request = R2ListRequest {
            limit: Some(limit),
            ..R2ListRequest::default()
        };
        let error = Plan::new(&request, str::to_owned).err().unwrap();
        assert_eq!(error.code(), R2Code::InvalidMaxKeys);
        assert_eq!(
            error.message(),
            "MaxKeys params must be positive integer <= 1000."
        );
    }
    let request = R2ListRequest {
        cursor: Some("!".into()),
        ..R2ListRequest::default()
    };
    let error = Plan::new(&request, str::to_owned).err().unwrap();
    assert_eq!(error.code(), R2Code::InvalidArgument);
}

// docs: r2 workers api, "list": order of bytes of UTF-8, not of UTF-16
#[tokio::test]
async fn a_bucket_lists_in_the_order_of_bytes_over_more_than_one_batch() {
    let world = World::new();
    let mut keys: Vec<String> = (0..40).map(|n| format!("k{n:03}")).collect();
    keys.extend([
        "k\u{ffff}".into(),
        "k\u{10000}".into(),
        "K".into(),
        "l".into(),
    ]);
    for key in &keys {
        world.put(key, "v").await;
    }
    keys.sort();
    let all = world.list(R2ListRequest::default()).await.unwrap();
    let listed: Vec<_> = all
        .objects
        .iter()
        .map(|object| object.key.clone())
        .collect();
    assert_eq!(listed, keys);
    assert_eq!(all.cursor, None);
    let prefixed = world
        .list(R2ListRequest {
            prefix: "k0".into(),
            limit: Some(40),
            ..R2ListRequest::default()
        })
        .await
        .unwrap();
    assert_eq!(prefixed.objects.len(), 40);
    assert_eq!(prefixed.cursor, None);
}

// miniflare: test/plugins/r2/index.spec.ts "list: delimited prefixes"
#[tokio::test]
async fn a_bucket_folds_groups_and_jumps_over_them() {
    let world = World::new();
    for n in 0..50 {
        world.put(&format!("dir0/file{n:02}"), "v").await;
    }
    for key in ["a", "dir1/x", "dir1/y", "z"] {
        world.put(key, "v").await;
    }
    let mut request = R2ListRequest {
        delimiter: "/".into(),
        limit: Some(2),
        ..R2ListRequest::default()
    };
    let first = world.list(request.clone()).await.unwrap();
    assert_eq!(first.objects[0].key, "a");
    assert_eq!(first.delimited_prefixes, ["dir0/"]);
    request.cursor = first.cursor;
    assert!(request.cursor.is_some());
    let second = world.list(request).await.unwrap();
    assert_eq!(second.delimited_prefixes, ["dir1/"]);
    assert_eq!(second.objects[0].key, "z");
    assert_eq!(second.cursor, None);
}

// docs: r2 workers api, "list", include: metadata only if asked for, and then by size
#[tokio::test]
async fn included_metadata_makes_a_page_shorter_and_is_left_out_otherwise() {
    let world = World::new();
    for n in 0..40 {
        let mut request = request(&format!("{n:02}"));
        request.custom_metadata = vec![("m".into(), "v".repeat(8000))];
        request.http_metadata.content_type = Some("text/plain".into());
        world.put_with(request, "v").await.unwrap();
    }
    let plain = world.list(R2ListRequest::default()).await.unwrap();
    assert_eq!(plain.objects.len(), 40);
    assert!(plain.objects.iter().all(|object| {
        object.custom_metadata.is_empty() && object.http_metadata == HttpMetadata::default()
    }));
    let mut request = R2ListRequest {
        include_custom_metadata: true,
        include_http_metadata: true,
        ..R2ListRequest::default()
    };
    let mut keys = Vec::new();
    let mut pages = 0;
    loop {
        let page = world.list(request.clone()).await.unwrap();
        let size: usize = page.objects.len() * 8000;
        assert!((1..=256 * 1024).contains(&size), "{size}");
        assert!(page.objects.iter().all(|object| {
            object.custom_metadata.len() == 1 && object.http_metadata.content_type.is_some()
        }));
        keys.extend(page.objects.into_iter().map(|object| object.key));
        pages += 1;
        match page.cursor {
            Some(cursor) => request.cursor = Some(cursor),
            None => break,
        }
    }
    assert_eq!(keys.len(), 40);
    assert_eq!(pages, 2);
}
