use std::path::Path;

use engawa_model::AccountId;
use futures_util::future::join_all;

use super::segment::Segments;
use super::*;
use crate::tests::Fixture;

fn point(number: u64) -> EventPoint {
    EventPoint {
        timestamp_ms: number,
        index: number.is_multiple_of(2).then(|| b"index".to_vec()),
        doubles: vec![
            0.5,
            f64::NEG_INFINITY,
            f64::from(u32::try_from(number).unwrap()),
        ],
        blobs: vec![Some(b"text \xff".to_vec()), None, Some(Vec::new())],
    }
}

fn key(number: u64) -> BatchKey {
    BatchKey {
        boot_id: "boot".to_owned(),
        number,
    }
}

fn batch(number: u64) -> EventBatch {
    EventBatch {
        received_ms: 1,
        dataset: "d".into(),
        key: key(number),
        points: vec![point(number)],
    }
}

async fn append(fixture: &Fixture, dataset: &str, number: u64) -> Result<bool, Error> {
    let events = fixture.storage.events();
    let (account, dataset) = (AccountId::local(), dataset.into());
    let points = vec![point(number), point(number + 1)];
    let appended = events
        .append(&account, &dataset, key(number), points)
        .await?;
    assert_eq!(appended.usage.class, UsageClass::AnalyticsWrite);
    assert_eq!(appended.usage.operations, 2);
    Ok(appended.value)
}

fn read(fixture: &Fixture, account: &str) -> Vec<EventBatch> {
    let reader = fixture.storage.events().read(&account.into()).unwrap();
    reader.map(Result::unwrap).collect()
}

fn numbers(folder: &Path) -> Vec<u64> {
    let reader = EventReader::open(folder.to_owned()).unwrap();
    reader.map(|batch| batch.unwrap().key.number).collect()
}

#[tokio::test]
async fn what_was_acknowledged_is_read_back_in_order_after_a_restart() {
    let fixture = Fixture::new();
    assert_eq!(read(&fixture, "local"), []);
    for number in [3, 1, 2] {
        assert!(append(&fixture, "d", number).await.unwrap());
    }
    let fixture = fixture.restart().await;
    assert!(append(&fixture, "e", 4).await.unwrap());
    let batches = read(&fixture, "local");
    let found: Vec<_> = batches
        .iter()
        .map(|batch| (batch.dataset.as_str(), batch.key.number))
        .collect();
    assert_eq!(found, [("d", 3), ("d", 1), ("d", 2), ("e", 4)]);
    assert_eq!(batches[0].points, [point(3), point(4)]);
    assert_eq!(batches[0].received_ms, 1_700_000_000_000);
    assert_eq!(read(&fixture, "other"), []);
}

// workerd.md 5.2: "Engawa drops a key it has already taken"
#[tokio::test]
async fn a_repeated_batch_is_stored_once_also_across_a_restart() {
    let fixture = Fixture::new();
    assert!(append(&fixture, "d", 1).await.unwrap());
    assert!(!append(&fixture, "d", 1).await.unwrap());
    // The same number of another dataset is another batch.
    assert!(append(&fixture, "e", 1).await.unwrap());
    let fixture = fixture.restart().await;
    assert!(!append(&fixture, "d", 1).await.unwrap());
    let together = join_all((0..20).map(|i| append(&fixture, "d", 2 + i % 2))).await;
    assert_eq!(
        together
            .into_iter()
            .filter(|new| *new.as_ref().unwrap())
            .count(),
        2
    );
    assert_eq!(read(&fixture, "local").len(), 4);
}

#[tokio::test]
async fn a_batch_or_a_queue_beyond_its_bound_is_refused() {
    let fixture = Fixture::new();
    let events = fixture.storage.events();
    let large = EventPoint {
        blobs: vec![Some(vec![0; BATCH_BYTES])],
        ..point(1)
    };
    let (account, dataset) = (AccountId::local(), DatasetName::from("d"));
    let error = events
        .append(&account, &dataset, key(1), vec![large])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    let log = events.log(&account);
    let waiting = |number| Waiting {
        key: (dataset.clone(), key(number)),
        record: vec![0; BATCH_BYTES],
        reply: oneshot::channel().0,
    };
    assert!(log.queue(waiting(1)).unwrap());
    assert!(!log.queue(waiting(2)).unwrap());
    let error = log.queue(waiting(3)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[test]
fn a_torn_end_of_any_length_is_cut_off_and_nothing_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let records: Vec<_> = (1..=3)
        .map(|number| record::encode(&batch(number)))
        .collect();
    let mut segments = Segments::open(folder.to_owned(), |_| ()).unwrap();
    segments.append(&[&records[0], &records[1]]).unwrap();
    let path = folder.join("0000000000000001.log");
    let before = std::fs::read(&path).unwrap();
    segments.append(&[&records[2]]).unwrap();
    drop(segments);
    let whole = std::fs::read(&path).unwrap();
    let mut torn: Vec<Vec<u8>> = (before.len()..whole.len())
        .map(|len| whole[..len].to_vec())
        .collect();
    // Written, but some of its pages were lost; and a tail of zeros.
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    torn.push(damaged);
    torn.push([&before[..], &[0; 4096]].concat());
    for torn in torn {
        std::fs::write(&path, &torn).unwrap();
        assert_eq!(numbers(folder), [1, 2], "{}", torn.len());
        let mut seen = Vec::new();
        let mut segments =
            Segments::open(folder.to_owned(), |batch| seen.push(batch.key.number)).unwrap();
        assert_eq!(seen, [1, 2]);
        assert_eq!(std::fs::read(&path).unwrap(), before);
        segments.append(&[&records[2]]).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), whole);
        assert_eq!(numbers(folder), [1, 2, 3]);
    }
    // A crash may also fall into the making of the file.
    for len in 0..8 {
        std::fs::write(&path, &whole[..len]).unwrap();
        let mut segments = Segments::open(folder.to_owned(), |_| ()).unwrap();
        segments.append(&[&records[0]]).unwrap();
        assert_eq!(numbers(folder), [1]);
    }
}

#[test]
fn a_full_segment_is_followed_by_another_and_damage_in_between_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut segments = Segments::open(folder.to_owned(), |_| ()).unwrap();
    segments.set_segment_bytes(200);
    for number in 1..=9 {
        segments.append(&[&record::encode(&batch(number))]).unwrap();
    }
    let files = std::fs::read_dir(folder).unwrap().count();
    assert!(files > 2, "{files}");
    assert_eq!(numbers(folder), (1..=9).collect::<Vec<_>>());
    // Keys are found again also across the border of two segments.
    let mut seen = Vec::new();
    let reopened = Segments::open(folder.to_owned(), |batch| seen.push(batch.key.number));
    drop(reopened.unwrap());
    assert_eq!(*seen.last().unwrap(), 9);
    assert!(seen.len() > 2);

    let first = folder.join("0000000000000001.log");
    let mut bytes = std::fs::read(&first).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&first, bytes).unwrap();
    let reader = EventReader::open(folder.to_owned()).unwrap();
    let error = reader.last().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains("0000000000000001.log"), "{error}");
}

#[test]
fn a_damaged_payload_is_none() {
    let payload = record::encode(&batch(1));
    assert_eq!(record::decode(&payload), Some(batch(1)));
    for len in 0..payload.len() {
        assert_eq!(record::decode(&payload[..len]), None);
    }
    assert_eq!(record::decode(&[&payload[..], &[0]].concat()), None);
    // A huge length allocates nothing.
    assert_eq!(
        record::decode(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255]),
        None
    );
}
