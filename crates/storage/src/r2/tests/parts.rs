use super::*;

impl World {
    pub(super) async fn create(&self, key: &str) -> String {
        let request = R2CreateMultipartRequest {
            key: key.to_owned(),
            custom_metadata: vec![("a".into(), "b".into())],
            ..R2CreateMultipartRequest::default()
        };
        let create = self
            .r2
            .create_multipart_upload(&self.account, &self.bucket, request);
        create.await.unwrap().value
    }

    pub(super) async fn part(
        &self,
        key: &str,
        upload_id: &str,
        part_number: u32,
        value: Vec<u8>,
    ) -> Result<R2UploadedPart, R2Error> {
        let part = R2Part {
            key: key.to_owned(),
            upload_id: upload_id.to_owned(),
            part_number,
            customer_key: None,
        };
        let mut upload = self.r2.begin_part(&self.account, &self.bucket, part)?;
        upload.write(value.into()).await?;
        upload.finish().await.map(|part| part.value)
    }

    async fn complete(
        &self,
        key: &str,
        upload: &str,
        parts: &[R2UploadedPart],
    ) -> Result<R2Object, R2Error> {
        let complete = self.r2.complete_multipart_upload(
            &self.account,
            &self.bucket,
            key,
            upload,
            parts.to_vec(),
        );
        complete.await.map(|object| object.value)
    }

    async fn abort(&self, key: &str, upload: &str) -> Result<(), R2Error> {
        let abort = self
            .r2
            .abort_multipart_upload(&self.account, &self.bucket, key, upload);
        abort.await.map(|done| done.value)
    }
}

// docs: r2 multipart objects; miniflare: test/plugins/r2/index.spec.ts "completeMultipartUpload"
#[tokio::test]
async fn parts_become_one_object_in_the_order_of_their_numbers() {
    let world = World::new();
    let upload = world.create("k").await;
    let values = [noise(70_000, 1), noise(70_000, 2), noise(20, 3)];
    let mut parts = Vec::new();
    for (value, number) in values.iter().zip([7, 9, 20]) {
        parts.push(
            world
                .part("k", &upload, number, value.clone())
                .await
                .unwrap(),
        );
    }
    let unused = world.part("k", &upload, 8, noise(5, 0)).await.unwrap();
    assert_eq!(unused.part_number, 8);
    assert_eq!(world.blobs().len(), 4);
    assert_eq!(world.head("k").await, None);
    parts.swap(0, 1);
    let object = world.complete("k", &upload, &parts).await.unwrap();
    assert_eq!(world.blobs().len(), 3);
    let whole = values.concat();
    assert_eq!(object.size_bytes, whole.len() as u64);
    assert!(object.etag.ends_with("-3"), "{}", object.etag);
    assert_eq!(object.checksums, Digests::default());
    assert_eq!(object.custom_metadata, [("a".into(), "b".into())]);
    let world = world.restart();
    assert_eq!(world.head("k").await, Some(object));
    assert_eq!(world.get("k").await.unwrap(), whole);
    for (offset, length) in [(69_990, 20), (70_000, 70_000), (139_999, 10), (140_000, 20)] {
        let request = R2GetRequest {
            key: "k".into(),
            range: Some(R2RangeRequest::Bytes {
                offset: Some(offset as u64),
                length: Some(length),
            }),
            ..R2GetRequest::default()
        };
        let R2Get::Found { range, body, .. } = world.get_with(request).await.unwrap() else {
            panic!("it is there");
        };
        let end = offset + usize::try_from(range.length).unwrap();
        assert_eq!(collect(body).await.unwrap(), whole[offset..end]);
    }
    world.delete(&["k"]).await;
    assert_eq!(world.blobs(), Vec::<PathBuf>::new());
}

// docs: r2 multipart objects: etags are MD5s; a part is replaced by its number
#[tokio::test]
async fn a_part_that_is_uploaded_again_replaces_the_first() {
    let world = World::new();
    let upload = world.create("k").await;
    let first = world.part("k", &upload, 1, noise(100, 1)).await.unwrap();
    let second = world
        .part("k", &upload, 1, b"hello".to_vec())
        .await
        .unwrap();
    assert_eq!(second.etag, "5d41402abc4b2a76b9719d911017c592");
    assert_eq!(world.blobs().len(), 1);
    let error = world.complete("k", &upload, &[first]).await.unwrap_err();
    assert_eq!(error.code(), R2Code::InvalidPart);
    world.complete("k", &upload, &[second]).await.unwrap();
    assert_eq!(world.get("k").await.unwrap(), b"hello");
}

// storage.md 3.6; miniflare: r2/bucket.worker.ts
#[tokio::test]
async fn uploads_that_are_finished_or_not_of_this_key_are_refused() {
    let world = World::new();
    let upload = world.create("k").await;
    let part = world
        .part("k", &upload, 1, b"hello".to_vec())
        .await
        .unwrap();
    let code = |result: Result<R2Object, R2Error>| result.unwrap_err().code();
    let parts = std::slice::from_ref(&part);
    assert_eq!(
        code(world.complete("other", &upload, parts).await),
        R2Code::InternalError
    );
    assert_eq!(
        code(world.complete("k", "unknown", parts).await),
        R2Code::InternalError
    );
    let error = world
        .part("other", &upload, 1, Vec::new())
        .await
        .unwrap_err();
    assert_eq!(error.code(), R2Code::NoSuchUpload);
    assert_eq!(
        error.message(),
        "The specified multipart upload does not exist."
    );
    for number in [0, 10_001] {
        let error = world
            .part("k", &upload, number, Vec::new())
            .await
            .unwrap_err();
        assert_eq!(error.code(), R2Code::InvalidArgument);
    }
    world.complete("k", &upload, parts).await.unwrap();
    assert_eq!(
        code(world.complete("k", &upload, parts).await),
        R2Code::NoSuchUpload
    );
    let late = world
        .part("k", &upload, 2, noise(100, 0))
        .await
        .unwrap_err();
    assert_eq!(late.code(), R2Code::NoSuchUpload);
    // Harmless after it is complete, an error if it never was.
    world.abort("k", &upload).await.unwrap();
    assert_eq!(world.get("k").await.unwrap(), b"hello");
    let error = world.abort("k", "unknown").await.unwrap_err();
    assert_eq!(error.code(), R2Code::InternalError);
    assert_eq!(world.blobs().len(), 1);
}

// docs: r2 multipart objects, "abort"
#[tokio::test]
async fn an_aborted_upload_leaves_nothing_and_may_be_aborted_again() {
    let world = World::new();
    let upload = world.create("k").await;
    world.part("k", &upload, 1, noise(100, 1)).await.unwrap();
    for _ in 0..2 {
        world.abort("k", &upload).await.unwrap();
    }
    assert_eq!(world.blobs(), Vec::<PathBuf>::new());
    let error = world.complete("k", &upload, &[]).await.unwrap_err();
    assert_eq!(error.code(), R2Code::NoSuchUpload);
}

// miniflare: test/plugins/r2/index.spec.ts "delete: waits for in-progress multipart gets"
#[tokio::test]
async fn a_read_of_parts_keeps_them_although_the_object_goes() {
    let world = World::new();
    let upload = world.create("k").await;
    let mut parts = Vec::new();
    for number in 1..=3_u8 {
        let value = noise(70_000, number);
        let part = world.part("k", &upload, number.into(), value).await;
        parts.push(part.unwrap());
    }
    world.complete("k", &upload, &parts).await.unwrap();
    let request = R2GetRequest {
        key: "k".into(),
        ..R2GetRequest::default()
    };
    let mut bodies = Vec::new();
    for _ in 0..2 {
        let R2Get::Found { body, .. } = world.get_with(request.clone()).await.unwrap() else {
            panic!("it is there");
        };
        bodies.push(body);
    }
    world.put("k", "new").await;
    assert_eq!(world.blobs().len(), 3);
    let whole = [noise(70_000, 1), noise(70_000, 2), noise(70_000, 3)].concat();
    assert_eq!(collect(bodies.pop().unwrap()).await.unwrap(), whole);
    assert_eq!(world.blobs().len(), 3);
    assert_eq!(collect(bodies.pop().unwrap()).await.unwrap(), whole);
    while !world.blobs().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.get("k").await.unwrap(), b"new");
}
