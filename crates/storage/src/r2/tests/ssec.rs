//! Values under a customer's key (docs: r2 examples, "Use SSE-C").

use proptest::prelude::*;

use super::*;

fn key(byte: u8) -> CustomerKey {
    CustomerKey::new([byte; 32])
}

impl World {
    async fn put_sealed(&self, name: &str, value: Vec<u8>) -> R2Object {
        let request = R2PutRequest {
            customer_key: Some(key(1)),
            ..request(name)
        };
        match self.put_with(request, value).await.unwrap() {
            R2Put::Stored(object) => object,
            R2Put::PreconditionFailed => panic!("no condition was given"),
        }
    }

    async fn get_under(
        &self,
        name: &str,
        customer_key: Option<CustomerKey>,
        range: Option<R2RangeRequest>,
    ) -> Result<Vec<u8>, R2Error> {
        let request = R2GetRequest {
            key: name.to_owned(),
            range,
            customer_key,
            ..R2GetRequest::default()
        };
        match self.get_with(request).await? {
            R2Get::Found { body, .. } => collect(body).await.map_err(Into::into),
            other => panic!("{other:?}"),
        }
    }

    /// Whether these bytes lie anywhere in the data folder.
    fn holds(&self, bytes: &[u8]) -> bool {
        self.r2.files.settle();
        let mut all = Vec::new();
        files(self.data.path().to_owned(), &mut all);
        assert!(!all.is_empty());
        all.iter().any(|file| {
            let content = std::fs::read(file).unwrap();
            content.windows(bytes.len()).any(|window| window == bytes)
        })
    }
}

#[tokio::test]
async fn a_value_comes_back_with_its_key_and_lies_nowhere_without() {
    let world = World::new();
    for len in [0, 40, 32 * 1024, 32 * 1024 + 1, 2_500_000] {
        let value = noise(len, 7);
        let put = world.put_sealed("k", value.clone()).await;
        assert_eq!(put.size_bytes, len as u64);
        assert_eq!(put.ssec_key_md5, Some(key(1).md5()));
        assert_eq!(world.head("k").await.as_ref(), Some(&put));
        assert_eq!(
            world.get_under("k", Some(key(1)), None).await.unwrap(),
            value
        );
        assert!(!world.holds(&[1; 32]), "the key");
        if len > 0 {
            assert!(!world.holds(&value[..40]), "the value");
        }
    }
    // The test itself can tell.
    world.put("plain", noise(40, 9)).await;
    assert!(world.holds(&noise(40, 9)));
}

#[tokio::test]
async fn another_key_none_and_one_too_many_are_refused() {
    let world = World::new();
    world.put_sealed("k", noise(100, 1)).await;
    world.put("plain", "text").await;
    for (name, given, text) in [
        ("k", None, "must be provided"),
        ("k", Some(key(2)), "did not match"),
        ("plain", Some(key(1)), "not applicable to this object"),
    ] {
        let error = world.get_under(name, given, None).await.unwrap_err();
        assert_eq!(error.code(), R2Code::InvalidArgument);
        assert!(error.message().contains(text), "{error}");
    }
    // Without a key it may be replaced, deleted and listed.
    let list = world.list(R2ListRequest::default()).await.unwrap();
    assert_eq!(list.objects[0].ssec_key_md5, Some(key(1).md5()));
    world.put("k", "plain now").await;
    assert_eq!(world.get("k").await.unwrap(), b"plain now");
    assert_eq!(world.head("k").await.unwrap().ssec_key_md5, None);
}

#[tokio::test]
async fn parts_are_sealed_each_and_only_with_the_key_of_their_upload() {
    let world = World::new();
    let create = |customer_key| {
        let request = R2CreateMultipartRequest {
            key: "k".into(),
            customer_key,
            ..R2CreateMultipartRequest::default()
        };
        world
            .r2
            .create_multipart_upload(&world.account, &world.bucket, request)
    };
    let part = async |upload_id: &str, part_number, customer_key, value: Vec<u8>| {
        let part = R2Part {
            key: "k".into(),
            upload_id: upload_id.to_owned(),
            part_number,
            customer_key,
        };
        let mut upload = world.r2.begin_part(&world.account, &world.bucket, part)?;
        upload.write(value.into()).await?;
        upload.finish().await.map(|part| part.value)
    };
    let upload = create(Some(key(1))).await.unwrap().value;
    let values = [noise(1_500_000, 1), noise(1_500_000, 1), noise(30, 3)];
    let mut parts = Vec::new();
    for (value, number) in values.iter().zip(1..) {
        let stored = part(&upload, number, Some(key(1)), value.clone()).await;
        parts.push(stored.unwrap());
    }
    for (given, text) in [(None, "must include"), (Some(key(2)), "did not match")] {
        let error = part(&upload, 4, given, noise(50, 0)).await.unwrap_err();
        assert_eq!(error.code(), R2Code::InvalidArgument);
        assert!(error.message().contains(text), "{error}");
    }
    let plain = create(None).await.unwrap().value;
    let error = part(&plain, 1, Some(key(1)), noise(50, 0)).await;
    assert!(error.unwrap_err().message().contains("did not request"));

    let complete = world.r2.complete_multipart_upload(
        &world.account,
        &world.bucket,
        "k",
        &upload,
        parts.clone(),
    );
    let object = complete.await.unwrap().value;
    assert_eq!(object.ssec_key_md5, Some(key(1).md5()));
    let whole = values.concat();
    assert_eq!(
        world.get_under("k", Some(key(1)), None).await.unwrap(),
        whole
    );
    let range = R2RangeRequest::Bytes {
        offset: Some(1_400_000),
        length: Some(1_600_010),
    };
    assert_eq!(
        world
            .get_under("k", Some(key(1)), Some(range))
            .await
            .unwrap(),
        whole[1_400_000..3_000_010]
    );
    assert!(!world.holds(&values[0][..40]));
}

/// Changes one byte of the only blob, and the checksums as an attacker would.
fn forge(world: &World, change: impl FnOnce(&mut Vec<u8>)) {
    let [blob] = &world.blobs()[..] else {
        panic!("one blob")
    };
    let mut content = std::fs::read(blob).unwrap();
    let len = content.len() - 20;
    let bytes = u64::from_le_bytes(content[len + 8..len + 16].try_into().unwrap());
    content.truncate(usize::try_from(bytes).unwrap());
    change(&mut content);
    let mut tail: Vec<u8> = content
        .chunks(1024 * 1024)
        .flat_map(|block| crc32c::crc32c(block).to_le_bytes())
        .collect();
    tail.extend(b"EngawaB1");
    tail.extend((content.len() as u64).to_le_bytes());
    tail.extend(crc32c::crc32c(&tail).to_le_bytes());
    content.extend(tail);
    std::fs::write(blob, content).unwrap();
}

#[tokio::test]
async fn a_value_that_was_tampered_with_does_not_open() {
    type Change = fn(&mut Vec<u8>);
    let world = World::new();
    let block = 1024 * 1024;
    let changes: [(&str, Change); 3] = [
        ("a bit", |bytes| bytes[1_500_000] ^= 1),
        ("cut at a chunk", |bytes| bytes.truncate(1024 * 1024)),
        ("chunks swapped", |bytes| {
            let (one, other) = bytes[..2 * 1024 * 1024].split_at_mut(1024 * 1024);
            one.swap_with_slice(other);
        }),
    ];
    for (what, change) in changes {
        world.put_sealed("k", noise(2 * block + 100, 5)).await;
        forge(&world, |_| {});
        world.get_under("k", Some(key(1)), None).await.unwrap();
        forge(&world, change);
        let error = world.get_under("k", Some(key(1)), None).await.unwrap_err();
        assert!(error.message().contains("does not open"), "{what}: {error}");
    }
}

fn cases() -> u32 {
    match std::env::var_os("ENGAWA_TEST_FULL") {
        Some(_) => 32,
        None => 3,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]
    /// Ranges around the seams of chunks, which are 16 bytes short of a MiB.
    #[test]
    fn any_range_of_a_sealed_value_is_that_range_of_the_plain_one(
        len in prop_oneof![1_048_550_usize..1_048_570, 2_097_100_usize..2_097_160],
        cuts in proptest::collection::vec(
            (prop_oneof![0_usize..40, 1_048_540_usize..1_048_580, 2_097_100_usize..2_097_160], 1_usize..1_100_000),
            4,
        ),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let world = World::new();
            let value = noise(len, 3);
            world.put_sealed("k", value.clone()).await;
            for (offset, length) in cuts {
                let offset = offset.min(len - 1);
                let range = R2RangeRequest::Bytes {
                    offset: Some(offset as u64),
                    length: Some(length as u64),
                };
                let read = world.get_under("k", Some(key(1)), Some(range)).await.unwrap();
                assert_eq!(read, value[offset..len.min(offset + length)]);
            }
        });
    }
}
