use std::collections::HashSet;

use engawa_model::AccountId;

use super::*;

struct Fixture {
    data: tempfile::TempDir,
    layout: Arc<Layout>,
    folder: BlobFolder,
}

impl Fixture {
    fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let layout = Arc::new(Layout::new(data.path().to_owned()));
        let account = AccountId::local();
        let path = layout.blobs_dir(crate::layout::Resource::Kv, &account, "ns");
        let folder = BlobFolder::new(layout.clone(), BlobIo::default(), path);
        Self {
            data,
            layout,
            folder,
        }
    }

    fn temp(&self, bytes: &[u8]) -> TempBlob {
        let mut blob = TempBlob::create(&self.layout, &AccountId::local()).unwrap();
        for chunk in bytes.chunks(700_001) {
            blob.write(chunk).unwrap();
        }
        blob.finish().unwrap();
        blob
    }

    fn stored(&self, bytes: &[u8]) -> BlobId {
        let published = self.folder.publish(self.temp(bytes)).unwrap();
        let id = published.id();
        published.keep();
        id
    }

    fn files(&self) -> Vec<PathBuf> {
        walk(self.data.path())
    }
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in read_folder(folder).unwrap() {
        if path.is_dir() {
            files.extend(walk(&path));
        } else {
            files.push(path);
        }
    }
    files
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| ((i * 7 + i / 251) % 256).to_le_bytes()[0])
        .collect()
}

async fn read(mut reader: BlobReader) -> Result<Vec<u8>, Error> {
    let announced = reader.len_bytes();
    let mut whole = Vec::new();
    while let Some(chunk) = reader.next_chunk().await {
        let chunk = chunk?;
        assert!(!chunk.is_empty() && chunk.len() <= 256 * 1024);
        whole.extend(chunk);
    }
    assert_eq!(whole.len() as u64, announced);
    Ok(whole)
}

#[tokio::test]
async fn a_blob_reads_back_whole_and_by_range() {
    let fixture = Fixture::new();
    for len in [0, 1, 1 << 20, (1 << 20) + 1, 2_500_000] {
        let bytes = pattern(len);
        let id = fixture.stored(&bytes);
        let whole = fixture.folder.open(id, None).unwrap();
        assert_eq!(read(whole).await.unwrap(), bytes);
        for (start, end) in [
            (0, 1),
            (5, 5),
            (1 << 20, (1 << 20) + 3),
            (1_000_000, 2_200_000),
            (0, 1 << 40),
        ] {
            let part = fixture.folder.open(id, Some(start..end)).unwrap();
            let (start, end) = (len.min(to_usize(start)), len.min(to_usize(end)));
            assert_eq!(read(part).await.unwrap(), bytes[start..end]);
        }
    }
}

#[tokio::test]
async fn a_flipped_byte_is_found_by_every_read_that_touches_its_block_only() {
    let fixture = Fixture::new();
    let id = fixture.stored(&pattern(3 << 20));
    let file = OpenOptions::new()
        .write(true)
        .open(fixture.folder.file(id))
        .unwrap();
    let at = (1 << 20) + 77;
    file.write_all_at(&[pattern(at + 1)[at] ^ 0x10], at as u64)
        .unwrap();
    for range in [
        None,
        Some(at as u64..at as u64 + 1),
        Some((2 << 20) - 1..2 << 20),
    ] {
        let error = read(fixture.folder.open(id, range).unwrap())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.message().contains(&id.to_string()), "{error}");
    }
    for range in [0..1 << 20, 2 << 20..3 << 20] {
        read(fixture.folder.open(id, Some(range)).unwrap())
            .await
            .unwrap();
    }
}

#[test]
fn a_damaged_footer_or_table_or_a_cut_file_is_refused() {
    let fixture = Fixture::new();
    let id = fixture.stored(&pattern(100));
    let path = fixture.folder.file(id);
    let whole = fs::read(&path).unwrap();
    for at in 100..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(&path, damaged).unwrap();
        assert_eq!(
            fixture.folder.open(id, None).unwrap_err().kind(),
            ErrorKind::Corrupt,
            "{at}"
        );
    }
    for len in 0..whole.len() {
        fs::write(&path, &whole[..len]).unwrap();
        assert_eq!(
            fixture.folder.open(id, None).unwrap_err().kind(),
            ErrorKind::Corrupt,
            "{len}"
        );
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(
        fixture.folder.open(id, None).unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[test]
fn what_is_dropped_before_a_transaction_names_it_leaves_nothing() {
    let fixture = Fixture::new();
    drop(TempBlob::create(&fixture.layout, &AccountId::local()).unwrap());
    drop(fixture.temp(b"x"));
    drop(fixture.folder.publish(fixture.temp(b"y")).unwrap());
    assert_eq!(fixture.files(), Vec::<PathBuf>::new());
}

#[test]
fn a_start_removes_uploads_that_a_crash_cut_off() {
    let fixture = Fixture::new();
    std::mem::forget(fixture.temp(b"x"));
    let kept = fixture.stored(b"y");
    assert_eq!(fixture.files().len(), 2);
    clear_uploads(&fixture.layout).unwrap();
    assert_eq!(fixture.files(), [fixture.folder.file(kept)]);
}

#[test]
fn garbage_is_what_an_earlier_process_left_and_nothing_names() {
    let fixture = Fixture::new();
    let written_now = fixture.stored(b"now");
    let named = fixture.stored(b"named");
    let named = fixture.folder.make_older(named);
    let lost = fixture.stored(b"lost");
    let lost = fixture.folder.make_older(lost);
    let removed = fixture
        .folder
        .collect_garbage(|id| Ok(id == named))
        .unwrap();
    assert_eq!(removed, 1);
    let left: HashSet<_> = fixture.files().into_iter().collect();
    assert_eq!(
        left,
        HashSet::from([fixture.folder.file(written_now), fixture.folder.file(named)])
    );
    fixture.folder.remove(lost).unwrap();
    fixture.folder.remove(named).unwrap();
    assert_eq!(fixture.files(), [fixture.folder.file(written_now)]);
}
