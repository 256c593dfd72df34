//! An edge holds at most its items and bytes; one larger item passes alone.

use std::{convert::Infallible, sync::Arc, sync::atomic::AtomicUsize, sync::atomic::Ordering, thread, time::Duration};

use perturbine::{Capacity, Pipeline};

use super::support::{Item, Pairs, SMALL, numbers, read_for_ever, workers};

#[test]
fn a_source_runs_ahead_by_no_more_than_its_edge_holds() {
    let pulled = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&pulled);
    let source = numbers(0..).inspect(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let mut stream = Pipeline::from_source("read", SMALL, source).stream();
    stream.next().unwrap().unwrap();
    thread::sleep(Duration::from_millis(50));
    // One was received, four lie on the edge, one waits to pass.
    assert!(pulled.load(Ordering::SeqCst) <= 6);
}

#[test]
fn a_map_runs_ahead_by_no_more_than_its_edge_holds() {
    let started = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&started);
    let mut stream = read_for_ever()
        .map("encode", workers(2), move |item| {
            counted.fetch_add(1, Ordering::SeqCst);
            Ok(item)
        })
        .stream();
    stream.next().unwrap().unwrap();
    thread::sleep(Duration::from_millis(50));
    assert!(started.load(Ordering::SeqCst) <= 5, "one was received, four are held");
}

#[test]
fn items_larger_than_an_edge_pass_one_by_one() {
    let tight = Capacity { items: 4, bytes: 10 };
    let large = (0..20).map(|number| Ok::<_, Infallible>(Item { number, bytes: 1000 }));
    let mut stream = Pipeline::from_source("read", tight, large).map("encode", workers(3), Ok).stream();
    assert_eq!(stream.by_ref().map(Result::unwrap).count(), 20);
    let report = stream.report();
    assert_eq!(report.edges[0].peak_bytes, 1000);
}

#[test]
fn a_plan_is_known_before_anything_runs() {
    let wide = Capacity { items: 2, bytes: 1 << 20 };
    let plan = Pipeline::from_source("read", SMALL, numbers(std::iter::from_fn(|| panic!("nothing may run"))))
        .capacity(wide)
        .map("encode", workers(3), Ok)
        .then("pair", Pairs::default())
        .plan("train");
    let nodes: Vec<_> = plan.nodes.iter().map(|node| (node.name, node.workers.get())).collect();
    assert_eq!(nodes, [("read", 1), ("encode", 3), ("pair", 1), ("train", 1)]);
    let edges: Vec<_> = plan.edges.iter().map(|edge| (edge.from, edge.to, edge.capacity)).collect();
    let place_for_each_worker = Capacity { items: 3, ..wide };
    assert_eq!(edges, [("read", "encode", SMALL), ("encode", "pair", place_for_each_worker), ("pair", "train", wide)]);
    assert_eq!(plan.bytes(), 64 + (2 << 20));
}
