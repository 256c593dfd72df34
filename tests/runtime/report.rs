//! Measurements of a run.

use std::{thread, time::Duration};

use super::support::{Diary, Pairs, collect, go_on, read, workers};

#[test]
fn a_report_counts_what_crossed_each_edge() {
    let run = read(5).then("pair", Pairs::default()).run("collect", collect(&Diary::default(), go_on)).unwrap();
    let crossed: Vec<_> = run.report.edges.iter().map(|edge| (edge.from, edge.to, edge.items, edge.bytes)).collect();
    assert_eq!(crossed, [("read", "pair", 5, 5), ("pair", "collect", 3, 5)]);
}

#[test]
fn a_report_names_the_stage_that_the_others_wait_for() {
    let run = read(30)
        .map("encode", workers(1), |item| {
            thread::sleep(Duration::from_millis(3));
            Ok(item)
        })
        .run("collect", collect(&Diary::default(), go_on))
        .unwrap();
    assert_eq!(run.report.slow_stage(), Some("encode"));
}

#[test]
fn threads_bear_the_names_of_their_stages() {
    let named = |name: &'static str| {
        move |item| {
            assert_eq!(thread::current().name(), Some(name));
            Ok(item)
        }
    };
    let stream = read(4).map("encode", workers(2), named("encode")).map("batch", workers(1), named("batch")).stream();
    assert_eq!(stream.map(Result::unwrap).count(), 4);
}
