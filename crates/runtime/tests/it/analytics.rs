//! `writeDataPoint()` from a worker to the durable log (workerd.md 5.2 and 10.8).

use engawa_model::{BindingKind, Version};
use engawa_storage::EventPoint;
use serde_json::json;

use crate::support::{World, binding, eventually, version};

const SCRIPT: &str = r"
export default {
  async fetch(request, env) {
    const what = new URL(request.url).pathname;
    const caught = (event) => { try { env.AE.writeDataPoint(event); return null; } catch (error) { return String(error); } };
    if (what === '/invalid') {
      return Response.json([
        caught({ indexes: ['a', 'b'] }), caught({ indexes: ['x'.repeat(97)] }), caught({ doubles: Array(21).fill(0) }),
        caught({ blobs: ['x'.repeat(16001)] }), caught({ blobs: 'text' }),
      ]);
    }
    if (what === '/many') {
      for (let n = 0; n < 1200; n++) env.AE.writeDataPoint({ blobs: ['x'.repeat(15000)], doubles: [n] });
      return new Response('ok');
    }
    for (let n = 0; n < 5; n++) {
      env.AE.writeDataPoint({ indexes: ['é'], doubles: [n, Infinity, -Infinity, NaN], blobs: ['text', null, new Uint8Array([0, 255])], timestamp: 1 });
    }
    if (what === '/throw') throw new Error('after the points');
    return new Response('ok');
  },
};
";

fn project() -> Version {
    version(
        "points",
        SCRIPT,
        vec![binding(
            "AE",
            BindingKind::AnalyticsEngine("chat_metrics".into()),
        )],
    )
}

async fn points(world: &World, count: usize) -> Vec<EventPoint> {
    eventually("all data points", || {
        let points: Vec<_> = world
            .events()
            .into_iter()
            .flat_map(|batch| batch.points)
            .collect();
        assert!(points.len() <= count, "too many points");
        (points.len() == count).then_some(points)
    })
    .await
}

#[tokio::test]
async fn points_of_a_handler_that_returns_at_once_arrive() {
    let world = World::new();
    let worker = world.deploy(project()).await;
    assert_eq!(worker.get("/").await.text(), "ok");
    let points = points(&world, 5).await;
    for (number, point) in points.iter().enumerate() {
        assert_eq!(point.index.as_deref(), Some("é".as_bytes()));
        assert_eq!(
            point.blobs,
            [Some(b"text".to_vec()), None, Some(vec![0, 255])]
        );
        let [n, infinity, negative, nan] = point.doubles[..] else {
            panic!("four doubles: {point:?}")
        };
        assert_eq!(n.to_string(), number.to_string());
        assert!(infinity == f64::INFINITY && negative == f64::NEG_INFINITY && nan.is_nan());
        assert!(
            point.timestamp_ms > 1_000_000,
            "a timestamp in a point is ignored"
        );
    }
    assert_eq!(world.events()[0].dataset.as_str(), "chat_metrics");
}

#[tokio::test]
async fn points_of_a_handler_that_throws_arrive() {
    let world = World::new();
    let worker = world.deploy(project()).await;
    assert_eq!(worker.get("/throw").await.status, 500);
    points(&world, 5).await;
}

#[tokio::test]
async fn many_large_points_arrive_in_batches_that_the_log_takes() {
    let world = World::new();
    let worker = world.deploy(project()).await;
    assert_eq!(worker.get("/many").await.text(), "ok");
    let mut numbers: Vec<f64> = points(&world, 1200)
        .await
        .iter()
        .map(|point| point.doubles[0])
        .collect();
    numbers.sort_by(f64::total_cmp);
    assert!(
        numbers
            .iter()
            .enumerate()
            .all(|(n, number)| n.to_string() == number.to_string())
    );
}

#[tokio::test]
async fn an_invalid_point_throws_as_declared() {
    let world = World::new();
    let worker = world.deploy(project()).await;
    let answer = worker.post("/invalid", &json!(null)).await;
    assert_eq!(
        answer,
        json!([
            "TypeError: writeDataPoint(): Maximum of 1 indexes supported.",
            "TypeError: writeDataPoint(): Size of indexes[0] exceeds 96 bytes).",
            "TypeError: writeDataPoint(): Maximum of 20 doubles supported.",
            "TypeError: writeDataPoint(): Cumulative size of blobs exceeds 16000 bytes).",
            "TypeError: Incorrect type for the 'blobs' field on 'AnalyticsEngineEvent': the provided value is not of type 'Array'.",
        ])
    );
}

#[tokio::test]
async fn a_repeated_batch_is_stored_once_and_a_foreign_dataset_not_at_all() {
    let world = World::new();
    let worker = world.deploy(project()).await;
    let batch = |dataset: &str, number: u64| {
        let point =
            json!({ "dataset": dataset, "ts": 5, "index": null, "doubles": [], "blobs": [] });
        json!({ "boot": "b", "batch": number, "lost": 0, "points": [point] }).to_string()
    };
    for _ in 0..3 {
        let answer = worker
            .raw_binding(Some("AE"), "POST", "/v1/points", batch("chat_metrics", 0))
            .await;
        assert_eq!(answer.status, 204);
    }
    let foreign = worker
        .raw_binding(Some("AE"), "POST", "/v1/points", batch("of_another", 1))
        .await;
    assert_eq!(foreign.status, 403);
    let unknown = worker
        .raw_binding(
            Some("chat_metrics"),
            "POST",
            "/v1/points",
            batch("chat_metrics", 2),
        )
        .await;
    assert_eq!(unknown.status, 404);
    let stored: Vec<_> = world
        .events()
        .into_iter()
        .map(|batch| (batch.dataset, batch.key.number))
        .collect();
    assert_eq!(stored, [("chat_metrics".into(), 0)]);
}
