//! Orders and waiting, without processes.

use super::*;

#[tokio::test]
async fn no_order_is_lost_and_the_most_urgent_comes_first() {
    let orders = Orders::default();
    for _ in 0..1000 {
        orders.give(Order::Want);
    }
    orders.give(Order::Retire);
    orders.give(Order::Hurry);
    assert!(matches!(orders.next().await, Event::Hurry));
    assert!(matches!(orders.next().await, Event::Retire));
    assert!(matches!(orders.next().await, Event::Wanted));
    // A thousand wishes were one.
    assert!(poll_once(orders.next()).await.is_none());
}

#[test]
fn the_queue_is_bounded() {
    let queue = Queue::default();
    let waiting: Vec<_> = (0..WAITING_MAX).map(|_| queue.enter()).collect();
    assert!(waiting.iter().all(Option::is_some));
    assert!(queue.enter().is_none());
    drop(waiting);
    assert!(queue.enter().is_some());
}

async fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        value = future => Some(value),
        () = std::future::ready(()) => None,
    }
}
