//! Order out is order in; the number of workers changes nothing.

use std::{convert::Infallible, sync::Arc, task::Poll, thread, time::Duration};

use perturbine::{Capacity, Pipeline, runtime::End};
use proptest::prelude::*;

use super::support::{Item, read, workers};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn order_and_budget_hold_for_any_workers_capacity_and_sizes(
        sizes in prop::collection::vec((0usize..40, 0usize..60), 0..80),
        count in 1usize..7,
        capacity in (0usize..6, 0usize..100).prop_map(|(items, bytes)| Capacity { items, bytes }),
    ) {
        let sent: Vec<Item> =
            sizes.iter().enumerate().map(|(number, &(bytes, _))| Item { number, bytes }).collect();
        let source = sent.clone().into_iter().map(Ok::<_, Infallible>);
        let results: Vec<usize> = sizes.iter().map(|&(_, result)| result).collect();
        let mut stream = Pipeline::from_source("read", capacity, source)
            .map("weigh", workers(count), move |item| Ok(Item { bytes: results[item.number], ..item }))
            .stream();
        let received: Vec<usize> = stream.by_ref().map(|item| item.unwrap().number).collect();

        prop_assert_eq!(received, (0..sizes.len()).collect::<Vec<_>>());
        prop_assert_eq!(stream.end(), Some(End::Complete));
        let report = stream.report();
        let [read, weigh] = report.edges.try_into().unwrap();
        let largest_input = sizes.iter().map(|size| size.0).max().unwrap_or(0);
        let largest_result = sizes.iter().map(|size| size.1).max().unwrap_or(0);
        prop_assert!(read.peak_bytes <= capacity.bytes.max(largest_input));
        prop_assert!(weigh.peak_bytes <= capacity.bytes.max(largest_input) + largest_result);
        prop_assert_eq!(read.bytes, sizes.iter().map(|size| size.0 as u64).sum::<u64>());
        prop_assert_eq!(weigh.bytes, sizes.iter().map(|size| size.1 as u64).sum::<u64>());
    }
}

#[test]
fn a_map_keeps_order_though_its_first_items_take_longest() {
    let received: Vec<usize> = read(40)
        .map("encode", workers(4), |item| {
            thread::sleep(Duration::from_millis(if item.number % 4 == 0 { 4 } else { 0 }));
            Ok(item)
        })
        .stream()
        .map(|item| item.unwrap().number)
        .collect();
    assert_eq!(received, (0..40).collect::<Vec<_>>());
}

#[test]
fn the_workers_of_a_map_work_at_the_same_time() {
    // Each of the first three items waits until all three have met.
    let met = Arc::new(std::sync::Barrier::new(3));
    let received = read(3)
        .map("encode", workers(3), move |item| {
            met.wait();
            Ok(item)
        })
        .stream()
        .count();
    assert_eq!(received, 3);
}

#[test]
fn a_caller_who_looks_elsewhere_between_two_waits_loses_nothing() {
    let mut stream = read(6)
        .map("encode", workers(2), |item| {
            thread::sleep(Duration::from_millis(20));
            Ok(item)
        })
        .stream();
    let (mut received, mut pending) = (Vec::new(), 0);
    loop {
        match stream.next_within(Duration::from_millis(1)) {
            Poll::Ready(Some(item)) => received.push(item.unwrap().number),
            Poll::Ready(None) => break,
            Poll::Pending => pending += 1,
        }
    }
    assert_eq!(received, (0..6).collect::<Vec<_>>());
    assert!(pending > 0, "the first item takes longer than the caller waits");
    assert_eq!(stream.end(), Some(End::Complete));
    assert!(matches!(stream.next_within(Duration::from_millis(1)), Poll::Ready(None)), "the end stays the end");
}
