//! Random queries on random data, against an evaluator that is written plainly and knows nothing of columns, blocks, workers or
//! limits. The same data in the head, sealed, in several runs, and in all of them at once.

// Without the stars that it finds needless, `pick` is taken for one of `str`.
#![allow(clippy::explicit_auto_deref)]

mod data;
mod naive;
mod queries;
mod server;

use data::{Data, Random, SECOND};
use naive::Answer;
use queries::Query;
use server::{Layout, Server};

/// Queries of each data set and layout.
const QUERIES: u64 = 150;

fn check(server: &Server, data: &Data, query: &Query, what: &str) {
    let text = query.text();
    let want = naive::answer(data, query);
    let got = server.ask(&text);
    if let Some(difference) = Answer::difference(&got, &want) {
        let short = |answer: &Answer| format!("{answer:?}").chars().take(2000).collect::<String>();
        panic!(
            "{what}\n{text}\n{difference}\ngot:  {}\nwant: {}",
            short(&got),
            short(&want)
        );
    }
}

fn run(seed: u64, points: usize, layout: Layout, queries: u64) {
    run_with(seed, points, 1, layout, queries);
}

fn run_with(seed: u64, points: usize, unit: i64, layout: Layout, queries: u64) {
    let mut random = Random::new(seed);
    let data = Data::new(&mut random, points, unit);
    let server = Server::with(&data, layout);
    for number in 0..queries {
        let mut random = Random::new(seed.wrapping_mul(1_000_003) ^ number);
        let query = Query::new(&mut random, &data);
        check(
            &server,
            &data,
            &query,
            &format!("seed {seed}, {layout:?}, query {number}"),
        );
    }
    server.stop();
}

#[test]
fn rows_in_the_head() {
    for seed in 0..6 {
        run(seed, 30 + 70 * seed as usize, Layout::Head, QUERIES);
    }
}

#[test]
fn sealed_rows() {
    for seed in 10..13 {
        run(seed, 40 + 150 * (seed - 10) as usize, Layout::Sealed, QUERIES);
    }
}

#[test]
fn rows_in_several_runs_and_the_head() {
    for seed in 20..23 {
        run(seed, 60 + 200 * (seed - 20) as usize, Layout::Mixed, QUERIES);
    }
}

#[test]
fn enough_rows_for_several_threads() {
    // One function of so many is worth a second thread.
    run(30, 210_000, Layout::Sealed, 16);
    run(31, 40_000, Layout::Mixed, 25);
}

/// As many rows as steps of blocks are made for, so that windows and LIMIT 1 are answered from their statistics.
#[test]
fn hours_of_points_answered_from_steps() {
    run_with(40, 40_000, SECOND, Layout::Sealed, 60);
    run_with(41, 30_000, SECOND, Layout::Sealed, 60);
}

#[test]
fn merged_rows() {
    run_with(51, 40_000, SECOND, Layout::Merged, 60);
    run_with(53, 33_000, SECOND, Layout::Merged, 60);
}

#[test]
fn hours_of_points_in_several_runs_and_the_head() {
    run_with(60, 35_000, SECOND, Layout::Mixed, 40);
}
