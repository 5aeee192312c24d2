use std::path::Path;

use super::*;
use crate::blobs::BlobFolder;
use crate::layout::Resource;

struct Fixture {
    _data: tempfile::TempDir,
    layout: Arc<Layout>,
    io: BlobIo,
}

impl Fixture {
    fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        Self {
            layout: Arc::new(Layout::new(data.path().to_owned())),
            io: BlobIo::default(),
            _data: data,
        }
    }

    fn stage(&self) -> Stage {
        let account = AccountId::local();
        Stage::new(self.layout.clone(), self.io.clone(), account, 16)
    }

    fn uploads(&self) -> usize {
        let folder = self.layout.blobs_tmp_dir(&AccountId::local());
        if !Path::new(&folder).exists() {
            return 0;
        }
        std::fs::read_dir(folder).unwrap().count()
    }
}

#[tokio::test]
async fn up_to_the_limit_a_value_stays_in_memory() {
    let fixture = Fixture::new();
    for chunks in [
        &[][..],
        &["0123456789abcdef"],
        &["01234567", "", "89abcdef"],
    ] {
        let mut stage = fixture.stage().with_digest(DigestKind::Sha256);
        for chunk in chunks {
            stage
                .write(Bytes::from_static(chunk.as_bytes()))
                .await
                .unwrap();
        }
        let staged = stage.finish().await.unwrap();
        let Content::Inline(bytes) = &staged.content else {
            panic!("{staged:?}")
        };
        assert_eq!(&bytes[..], chunks.concat().as_bytes());
        let digest: [u8; 32] = sha2::Sha256::digest(bytes).into();
        assert_eq!(staged.digests.sha256, Some(digest));
        assert_eq!(staged.digests.md5, None);
    }
    assert_eq!(fixture.uploads(), 0);
}

#[tokio::test]
async fn a_longer_one_becomes_a_blob_with_all_its_digests() {
    let fixture = Fixture::new();
    let bytes: Vec<u8> = (0..3_300_000u32)
        .map(|i| (i ^ (i >> 8)).to_le_bytes()[0])
        .collect();
    for chunk_len in [17, 65_536, 3_300_000] {
        let mut stage = fixture.stage();
        for kind in [
            DigestKind::Md5,
            DigestKind::Sha1,
            DigestKind::Sha256,
            DigestKind::Sha384,
            DigestKind::Sha512,
        ] {
            stage = stage.with_digest(kind);
        }
        let len = if chunk_len == 17 { 17 } else { bytes.len() };
        for chunk in bytes[..len].chunks(chunk_len) {
            stage.write(Bytes::copy_from_slice(chunk)).await.unwrap();
        }
        let staged = stage.finish().await.unwrap();
        assert_eq!(staged.len_bytes, len as u64);
        let digests = staged.digests;
        assert_eq!(digests.md5, Some(md5::Md5::digest(&bytes[..len]).into()));
        assert_eq!(digests.sha1, Some(sha1::Sha1::digest(&bytes[..len]).into()));
        assert_eq!(
            digests.sha256,
            Some(sha2::Sha256::digest(&bytes[..len]).into())
        );
        assert_eq!(
            digests.sha384,
            Some(sha2::Sha384::digest(&bytes[..len]).into())
        );
        assert_eq!(
            digests.sha512,
            Some(sha2::Sha512::digest(&bytes[..len]).into())
        );
        let Content::Blob(blob) = staged.content else {
            panic!("not a blob")
        };
        let path = fixture
            .layout
            .blobs_dir(Resource::R2, &AccountId::local(), "b");
        let folder = BlobFolder::new(fixture.layout.clone(), fixture.io.clone(), path);
        let published = folder.publish(blob).unwrap();
        let body = Body::Blob(folder.open(published.id(), None).unwrap());
        assert_eq!(body.collect(4 << 20).await.unwrap(), bytes[..len]);
        let body = Body::Blob(folder.open(published.id(), None).unwrap());
        assert_eq!(
            body.collect(16).await.unwrap_err().kind(),
            ErrorKind::TooLarge
        );
    }
    assert_eq!(fixture.uploads(), 0);
}

#[tokio::test]
async fn past_its_limit_an_upload_is_counted_and_not_kept() {
    let fixture = Fixture::new();
    let mut stage = fixture.stage().with_limit(2 << 20);
    for _ in 0..40 {
        stage.write(Bytes::from(vec![0; 100_000])).await.unwrap();
    }
    assert!(stage.is_over_limit());
    let staged = stage.finish().await.unwrap();
    assert_eq!(staged.len_bytes, 4_000_000);
    assert!(matches!(staged.content, Content::OverLimit));
    assert_eq!(fixture.uploads(), 0);
}

#[tokio::test]
async fn an_upload_that_is_dropped_leaves_nothing() {
    let fixture = Fixture::new();
    let mut stage = fixture.stage();
    for _ in 0..3 {
        stage.write(Bytes::from(vec![0; 1 << 20])).await.unwrap();
    }
    drop(stage);
    let mut stage = fixture.stage();
    stage.write(Bytes::from(vec![0; 1 << 20])).await.unwrap();
    let staged = stage.finish().await.unwrap();
    assert!(fixture.uploads() > 0);
    drop(staged);
    // A write that was under way ends on its own; closing waits for it.
    fixture.io.close().await;
    assert_eq!(fixture.uploads(), 0);
}

#[tokio::test]
async fn after_a_failed_write_nothing_can_be_finished() {
    let fixture = Fixture::new();
    // A file stands where the folder of the account's blobs must be.
    let folder = fixture.layout.blobs_tmp_dir(&AccountId::local());
    let blobs = folder.parent().unwrap();
    std::fs::create_dir_all(blobs.parent().unwrap()).unwrap();
    std::fs::write(blobs, "").unwrap();
    let mut stage = fixture.stage();
    stage.write(Bytes::from(vec![0; 1 << 20])).await.unwrap();
    stage
        .write(Bytes::from(vec![0; 1 << 20]))
        .await
        .unwrap_err();
    std::fs::remove_file(blobs).unwrap();
    stage
        .write(Bytes::from(vec![0; 1 << 20]))
        .await
        .unwrap_err();
    stage.finish().await.unwrap_err();
}
