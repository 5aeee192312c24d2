use std::fs;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use engawa_model::{AccountId, NamespaceId};

use super::*;
use crate::KvPutOptions;
use crate::tests::Fixture;

const FAST: u64 = 1 << 40;

/// A namespace with so many blobs.
async fn with_blobs(count: usize) -> (Fixture, Vec<PathBuf>) {
    let fixture = Fixture::new();
    let (account, kv) = (AccountId::local(), NamespaceId::new("ns"));
    for number in 0..count {
        let mut stage = fixture.storage.stage(&account, 0);
        let value = Bytes::from(vec![1; 20_000]);
        stage.write(value).await.unwrap();
        let value = stage.finish().await.unwrap();
        let (key, options) = (number.to_string(), KvPutOptions::default());
        let storage = &fixture.storage;
        storage
            .kv()
            .put(&account, &kv, &key, value, options)
            .await
            .unwrap();
    }
    let mut blobs = vec![fixture.data_dir().join("accounts/local/blobs/kv")];
    while blobs[0].is_dir() {
        blobs = blobs.iter().flat_map(|folder| sorted(folder)).collect();
    }
    (fixture, blobs)
}

fn shared(fixture: &Fixture, bytes_per_s: u64) -> Shared {
    let layout = Layout::new(fixture.data_dir().to_owned());
    let now_ms = fixture.now_ms.clone();
    let clock = Clock::from_fn(move || now_ms.load(Ordering::SeqCst));
    Shared::new(Arc::new(layout), clock, bytes_per_s)
}

#[tokio::test]
async fn a_round_verifies_every_blob_and_names_the_damaged_ones() {
    let (fixture, blobs) = with_blobs(10).await;
    let mut bytes = fs::read(&blobs[3]).unwrap();
    bytes[100] ^= 1;
    fs::write(&blobs[3], bytes).unwrap();
    fs::write(&blobs[7], b"short").unwrap();

    let scrubber = shared(&fixture, FAST);
    assert!(scrubber.is_due());
    assert!(scrubber.round().is_ok());
    let status = scrubber.state().status.clone();
    assert_eq!((status.blobs, status.bytes), (8, 160_000));
    assert_eq!(status.damaged, [blobs[3].clone(), blobs[7].clone()]);
    // The next one begins a week after this one began, also after a restart.
    assert!(!scrubber.is_due());
    fixture.pass_s(7 * 24 * 60 * 60 - 1);
    assert!(!shared(&fixture, FAST).is_due());
    fixture.pass_s(1);
    assert!(shared(&fixture, FAST).is_due());
}

#[tokio::test]
async fn a_round_goes_on_where_an_earlier_process_was() {
    let (fixture, blobs) = with_blobs(10).await;
    let first = shared(&fixture, FAST);
    assert!(first.is_due());
    for blob in &blobs[..4] {
        assert!(first.verify(blob).is_ok());
    }
    first.keep();

    let second = shared(&fixture, FAST);
    assert!(second.is_due(), "it is not over");
    // Whatever lies before the place is not read again.
    for blob in &blobs[..4] {
        fs::write(blob, b"short").unwrap();
    }
    assert!(second.round().is_ok());
    let status = second.state().status.clone();
    assert_eq!((status.blobs, status.damaged.len()), (10, 0));
}

#[tokio::test]
async fn it_stops_at_once_however_slow_it_is() {
    let (fixture, _) = with_blobs(2).await;
    // A blob takes hours.
    let scrubber = Arc::new(shared(&fixture, 1));
    assert_eq!(scrubber.cost(7), Duration::from_secs(7));
    let thread = {
        let scrubber = scrubber.clone();
        std::thread::spawn(move || scrubber.is_due() && scrubber.round().is_err())
    };
    scrubber.state().stopping = true;
    scrubber.stop.notify_all();
    assert!(thread.join().unwrap());
}

#[tokio::test]
async fn a_place_that_cannot_be_read_begins_a_new_round() {
    let (fixture, _) = with_blobs(1).await;
    fs::write(fixture.data_dir().join("scrub.json"), [0; 40]).unwrap();
    let scrubber = shared(&fixture, FAST);
    assert!(scrubber.is_due());
    assert!(scrubber.round().is_ok());
    assert_eq!(scrubber.state().status.blobs, 1);
}
