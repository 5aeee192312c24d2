use super::*;

fn sha256_of_hello() -> [u8; 32] {
    use sha2::Digest as _;
    sha2::Sha256::digest("hello").into()
}

// docs: r2 workers api; miniflare: test/plugins/r2/index.spec.ts "put", "get", "head"
#[tokio::test]
async fn an_object_comes_back_with_all_that_was_said_of_it() {
    let world = World::new();
    let mut request = request("a/b");
    request.http_metadata = HttpMetadata {
        content_type: Some("text/plain".into()),
        cache_expiry_ms: Some(1_800_000_000_000),
        ..HttpMetadata::default()
    };
    request.custom_metadata = vec![("Owner".into(), "ann \"ä\"".into())];
    request.storage_class = StorageClass::InfrequentAccess;
    request.checksums.sha256 = Some(sha256_of_hello());
    let R2Put::Stored(put) = world.put_with(request.clone(), "hello").await.unwrap() else {
        panic!("no condition was given");
    };
    assert_eq!(put.key, "a/b");
    assert_eq!(put.size_bytes, 5);
    assert_eq!(put.etag, "5d41402abc4b2a76b9719d911017c592");
    assert_eq!(put.http_etag(), "\"5d41402abc4b2a76b9719d911017c592\"");
    assert_eq!(put.uploaded_ms, NOW_MS);
    assert_eq!(put.http_metadata, request.http_metadata);
    assert_eq!(put.custom_metadata, request.custom_metadata);
    assert_eq!(put.storage_class, StorageClass::InfrequentAccess);
    assert_eq!(put.checksums.sha256, Some(sha256_of_hello()));
    assert!(put.checksums.md5.is_some() && put.checksums.sha512.is_none());
    let world = world.restart();
    assert_eq!(world.head("a/b").await, Some(put));
    assert_eq!(world.get("a/b").await.unwrap(), b"hello");
    assert_eq!(world.head("a").await, None);
    assert_eq!(world.get("a").await, None);
}

// docs: r2 workers api, "put": a version for each write
#[tokio::test]
async fn a_put_replaces_everything_and_leaves_no_old_blob() {
    let world = World::new();
    let large = noise(100_000, 1);
    let first = world.put("k", large.clone()).await;
    assert_eq!(world.blobs().len(), 1);
    world.later(1);
    let second = world.put("k", noise(200_000, 2)).await;
    assert_ne!(first.version, second.version);
    assert_eq!(world.blobs().len(), 1);
    assert_eq!(world.get("k").await.unwrap(), noise(200_000, 2));
    world.put("k", "small").await;
    assert_eq!(world.blobs(), Vec::<PathBuf>::new());
    assert_eq!(world.get("k").await.unwrap(), b"small");
    world.put("k", "").await;
    assert_eq!(world.get("k").await.unwrap(), b"");
    world.put("k", large).await;
    world.delete(&["k", "absent"]).await;
    assert_eq!(world.head("k").await, None);
    assert_eq!(world.blobs(), Vec::<PathBuf>::new());
}

// storage.md 3.2: the three-line text of 10037
#[tokio::test]
async fn a_wrong_digest_stores_nothing_and_names_both() {
    let world = World::new();
    world.put("k", "old").await;
    for value in [Bytes::from("hello!"), Bytes::from(noise(100_000, 0))] {
        let mut request = request("k");
        request.checksums.sha256 = Some(sha256_of_hello());
        let error = world.put_with(request, value.clone()).await.unwrap_err();
        assert_eq!(error.code(), R2Code::BadDigest);
        let actual = {
            use sha2::Digest as _;
            error::hex(&sha2::Sha256::digest(&value))
        };
        assert_eq!(
            error.message(),
            format!(
                "The SHA-256 checksum you specified did not match what we received.\n\
                 You provided a SHA-256 checksum with value: \
                 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824\n\
                 Actual SHA-256 was: {actual}"
            )
        );
    }
    assert_eq!(world.get("k").await.unwrap(), b"old");
    assert_eq!(world.blobs(), Vec::<PathBuf>::new());
}

// docs: r2 workers api, hash options
#[tokio::test]
async fn every_digest_can_be_checked() {
    let world = World::new();
    let value = noise(50_000, 3);
    let mut good = Digests::default();
    {
        use sha2::Digest as _;
        good.md5 = Some(md5::Md5::digest(&value).into());
        good.sha1 = Some(sha1::Sha1::digest(&value).into());
        good.sha384 = Some(sha2::Sha384::digest(&value).into());
        good.sha512 = Some(sha2::Sha512::digest(&value).into());
    }
    let mut request = request("k");
    request.checksums = good;
    let put = world
        .put_with(request.clone(), value.clone())
        .await
        .unwrap();
    let R2Put::Stored(put) = put else { panic!() };
    assert_eq!(put.checksums, good);
    assert_eq!(world.head("k").await.unwrap().checksums, good);
    for (spoil, name) in [
        (
            &(|digests: &mut Digests| digests.md5 = Some([0; 16])) as &dyn Fn(&mut Digests),
            "MD5",
        ),
        (&|digests| digests.sha1 = Some([0; 20]), "SHA-1"),
        (&|digests| digests.sha384 = Some([0; 48]), "SHA-384"),
        (&|digests| digests.sha512 = Some([0; 64]), "SHA-512"),
    ] {
        let mut request = request.clone();
        spoil(&mut request.checksums);
        let error = world.put_with(request, value.clone()).await.unwrap_err();
        assert!(
            error.message().starts_with(&format!("The {name} ")),
            "{error}"
        );
    }
}

fn only_if(key: &str, only_if: R2Conditional) -> R2GetRequest {
    R2GetRequest {
        key: key.into(),
        only_if: Some(only_if),
        ..R2GetRequest::default()
    }
}

// docs: r2 workers api, "conditional operations"
#[tokio::test]
async fn a_read_whose_condition_fails_gives_the_object_without_its_value() {
    let world = World::new();
    let object = world.put("k", "v").await;
    let differs = R2Conditional {
        etag_does_not_match: Some(vec![R2Etag::Strong(object.etag.clone())]),
        ..R2Conditional::default()
    };
    match world.get_with(only_if("k", differs.clone())).await.unwrap() {
        R2Get::PreconditionFailed {
            object: found,
            not_modified,
        } => {
            assert_eq!(found, object);
            assert!(not_modified);
        }
        other => panic!("{other:?}"),
    }
    let before = R2Conditional {
        uploaded_before_ms: Some(0),
        ..R2Conditional::default()
    };
    assert!(matches!(
        world.get_with(only_if("k", before)).await.unwrap(),
        R2Get::PreconditionFailed {
            not_modified: false,
            ..
        }
    ));
    // miniflare: an absent object is absent before any condition.
    assert!(matches!(
        world.get_with(only_if("absent", differs)).await.unwrap(),
        R2Get::NoSuchKey
    ));
    // A condition comes before a range.
    let mut request = only_if(
        "k",
        R2Conditional {
            etag_matches: Some(vec![R2Etag::Strong("x".into())]),
            ..R2Conditional::default()
        },
    );
    request.range = Some(R2RangeRequest::Suffix(0));
    assert!(matches!(
        world.get_with(request.clone()).await.unwrap(),
        R2Get::PreconditionFailed { .. }
    ));
    request.only_if = None;
    let error = world.get_with(request).await.unwrap_err();
    assert_eq!(error.code(), R2Code::InvalidRange);
    assert_eq!(error.message(), "The requested range is not satisfiable");
}

// docs: r2 consistency, "last writer wins"; storage.md 3.3 "one atomic step"
#[tokio::test(flavor = "multi_thread")]
async fn of_many_puts_that_create_exactly_one_wins() {
    let world = Arc::new(World::new());
    for (round, len) in [10, 100_000, 10, 100_000].into_iter().enumerate() {
        let key = format!("k{round}");
        let puts: Vec<_> = (0..24_u8)
            .map(|seed| {
                let (world, key) = (world.clone(), key.clone());
                tokio::spawn(async move {
                    let mut request = request(&key);
                    request.only_if = Some(R2Conditional {
                        etag_does_not_match: Some(vec![R2Etag::Wildcard]),
                        ..R2Conditional::default()
                    });
                    let put = world.put_with(request, noise(len, seed)).await.unwrap();
                    matches!(put, R2Put::Stored(_)).then_some(seed)
                })
            })
            .collect();
        let mut winners = Vec::new();
        for put in puts {
            winners.extend(put.await.unwrap());
        }
        assert_eq!(winners.len(), 1);
        assert_eq!(world.get(&key).await.unwrap(), noise(len, winners[0]));
    }
    assert_eq!(world.blobs().len(), 2);
}

// storage.md 3.2: "readers in flight keep their version"
#[tokio::test]
async fn a_read_under_way_keeps_its_version() {
    let world = World::new();
    let old = noise(3 * 1024 * 1024, 1);
    world.put("k", old.clone()).await;
    let request = R2GetRequest {
        key: "k".into(),
        ..R2GetRequest::default()
    };
    let mut bodies = Vec::new();
    for _ in 0..2 {
        match world.get_with(request.clone()).await.unwrap() {
            R2Get::Found { body, .. } => bodies.push(body),
            other => panic!("{other:?}"),
        }
    }
    let first = bodies[0].next_chunk().await.unwrap().unwrap();
    world.put("k", "new").await;
    world.delete(&["k"]).await;
    assert_eq!(world.blobs(), Vec::<PathBuf>::new());
    assert_eq!(collect(bodies.pop().unwrap()).await.unwrap(), old);
    let rest = collect(bodies.pop().unwrap()).await.unwrap();
    assert_eq!([first.to_vec(), rest].concat(), old);
}

// docs: r2 workers api, "ranged reads"
#[tokio::test]
async fn ranges_of_small_and_of_large_values() {
    let world = World::new();
    for len in [1000, 2_500_000_usize] {
        let value = noise(len, 7);
        world.put("k", value.clone()).await;
        for (offset, length) in [(0, len), (10, 5), (len - 1, 1), (len / 2, 900_000)] {
            let request = R2GetRequest {
                key: "k".into(),
                range: Some(R2RangeRequest::Bytes {
                    offset: Some(offset as u64),
                    length: Some(length as u64),
                }),
                ..R2GetRequest::default()
            };
            let R2Get::Found {
                object,
                range,
                body,
            } = world.get_with(request).await.unwrap()
            else {
                panic!("it is there")
            };
            let end = len.min(offset + length);
            assert_eq!(object.size_bytes, len as u64);
            assert_eq!(range.length, (end - offset) as u64);
            assert_eq!(collect(body).await.unwrap(), value[offset..end]);
        }
    }
}

// A stream in, a stream out; a chunk is all that is in memory of it.
#[tokio::test]
async fn a_large_object_streams_in_and_out() {
    let world = World::new();
    let chunk = Bytes::from(noise(64 * 1024, 9));
    let chunks = 640;
    let mut upload = world
        .r2
        .begin_put(&world.account, &world.bucket, request("large"))
        .unwrap();
    for _ in 0..chunks {
        upload.write(chunk.clone()).await.unwrap();
    }
    assert_eq!(upload.len_bytes(), 64 * 1024 * chunks);
    let R2Put::Stored(object) = upload.finish().await.unwrap().value else {
        panic!("no condition was given");
    };
    assert_eq!(object.size_bytes, 64 * 1024 * chunks);
    let request = R2GetRequest {
        key: "large".into(),
        ..R2GetRequest::default()
    };
    let R2Get::Found { mut body, .. } = world.get_with(request).await.unwrap() else {
        panic!("it is there");
    };
    let mut at = 0_usize;
    while let Some(read) = body.next_chunk().await {
        for byte in read.unwrap() {
            assert_eq!(byte, chunk[at % chunk.len()]);
            at += 1;
        }
    }
    assert_eq!(at as u64, object.size_bytes);
}

#[tokio::test]
async fn an_upload_that_stops_half_way_leaves_nothing() {
    let world = World::new();
    let mut upload = world
        .r2
        .begin_put(&world.account, &world.bucket, request("k"))
        .unwrap();
    for _ in 0..5 {
        upload.write(noise(1024 * 1024, 0).into()).await.unwrap();
    }
    drop(upload);
    // What was being written goes when that write has ended.
    while !world.blobs().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.head("k").await, None);
}

#[tokio::test]
async fn two_accounts_with_buckets_of_one_name_share_nothing() {
    let world = World::new();
    let other = AccountId::new("other");
    world.put("k", noise(100_000, 1)).await;
    let head = world.r2.head(&other, &world.bucket, "k").await.unwrap();
    assert_eq!(head.value, None);
    let put = world.r2.put(
        &other,
        &world.bucket,
        request("k"),
        noise(100_000, 2).into(),
    );
    put.await.unwrap();
    let delete = world.r2.delete(&other, &world.bucket, vec!["k".into()]);
    delete.await.unwrap();
    assert_eq!(world.get("k").await.unwrap(), noise(100_000, 1));
}

// docs: r2 unicode interoperability
#[tokio::test]
async fn spellings_of_one_text_are_one_key_and_the_last_is_shown() {
    let world = World::new();
    world.put("caf\u{e9}", "1").await;
    world.put("cafe\u{301}", "2").await;
    assert_eq!(world.get("caf\u{e9}").await.unwrap(), b"2");
    let list = world.list(R2ListRequest::default()).await.unwrap();
    assert_eq!(list.objects.len(), 1);
    assert_eq!(list.objects[0].key, "cafe\u{301}");
    world.put("caf\u{e9}", "3").await;
    assert_eq!(world.head("cafe\u{301}").await.unwrap().key, "caf\u{e9}");
}

// docs: r2 limits, r2 workers api "delete"
#[tokio::test]
async fn what_is_too_long_or_too_much_is_refused_before_any_byte_comes() {
    let world = World::new();
    let long = "k".repeat(1025);
    let begin = |request| world.r2.begin_put(&world.account, &world.bucket, request);
    let error = begin(request(&long)).err().unwrap();
    assert_eq!(error.code(), R2Code::InvalidObjectName);
    let mut heavy = request("k");
    heavy.custom_metadata = vec![("k".into(), "v".repeat(8192))];
    assert_eq!(begin(heavy).err().unwrap().code(), R2Code::MetadataTooLarge);
    let delete = world
        .r2
        .delete(&world.account, &world.bucket, vec!["k".into(); 1001]);
    assert_eq!(delete.await.unwrap_err().code(), R2Code::InvalidArgument);
}

// docs: r2 pricing, class A and class B operations
#[tokio::test]
async fn each_call_says_what_it_cost() {
    let world = World::new();
    let (account, bucket) = (&world.account, &world.bucket);
    let put = world.r2.put(account, bucket, request("k"), "hello".into());
    let put = put.await.unwrap().usage;
    assert_eq!((put.class, put.bytes_in), (UsageClass::R2ClassA, 5));
    let get = R2GetRequest {
        key: "k".into(),
        range: Some(R2RangeRequest::Suffix(2)),
        ..R2GetRequest::default()
    };
    let get = world.r2.get(account, bucket, get).await.unwrap().usage;
    assert_eq!((get.class, get.bytes_out), (UsageClass::R2ClassB, 2));
    let list = world.r2.list(account, bucket, R2ListRequest::default());
    assert_eq!(list.await.unwrap().usage.class, UsageClass::R2ClassA);
    let delete = world.r2.delete(account, bucket, vec!["k".into()]);
    assert_eq!(delete.await.unwrap().usage.class, UsageClass::R2Free);
}

#[tokio::test]
async fn removing_a_buckets_files_leaves_an_empty_bucket() {
    let world = World::new();
    world.put("k", noise(100_000, 1)).await;
    world
        .r2
        .remove_files(&world.account, &world.bucket)
        .unwrap();
    assert_eq!(world.blobs(), Vec::<PathBuf>::new());
    assert_eq!(world.head("k").await, None);
    world.put("k", "new").await;
    assert_eq!(world.get("k").await.unwrap(), b"new");
}

// DESIGN 3: what a crash leaves behind is collected, what is named is not
#[tokio::test]
async fn blobs_that_an_earlier_process_left_without_a_name_go() {
    let world = World::new();
    world.put("k", noise(100_000, 1)).await;
    let [blob] = world.blobs().try_into().unwrap();
    // As an earlier process would have named it: the second half says which one.
    let mine = blob.file_name().unwrap().to_str().unwrap();
    let earlier = |first: char| {
        let name = format!("{first}{}{}", &mine[1..16], "0".repeat(16));
        let folder = blob.parent().unwrap().parent().unwrap().join(&name[..2]);
        std::fs::create_dir_all(&folder).unwrap();
        (folder.join(&name), u128::from_str_radix(&name, 16).unwrap())
    };
    let (named, id) = earlier('a');
    let (stray, _) = earlier('b');
    let path = world
        .r2
        .context
        .path(&(world.account.clone(), world.bucket.clone()));
    let data = world.data.clone();
    drop(world);
    std::fs::copy(&blob, &stray).unwrap();
    std::fs::rename(&blob, &named).unwrap();
    let file = rusqlite::Connection::open(path).unwrap();
    file.execute("UPDATE objects SET blob = ?1", [id.to_be_bytes()])
        .unwrap();
    drop(file);
    let world = World::at(data);
    assert_eq!(world.get("k").await.unwrap(), noise(100_000, 1));
    assert_eq!(world.blobs(), [named]);
    assert_eq!(world.get("k").await.unwrap(), noise(100_000, 1));
}
