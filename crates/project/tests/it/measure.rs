//! How long builds take. These say and do not judge:
//! `cargo test -p engawa-project --test it measure -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use crate::support::{Folder, build_with, builder, pages};

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[test]
#[ignore = "prints times"]
fn an_edit_of_one_function() {
    let folder = Folder::new(&[("public/index.html", "x")]);
    for n in 0..30 {
        folder.write(
            &format!("functions/f{n}.ts"),
            "import { EventEmitter } from 'node:events'; export const onRequest = () => new Response(typeof EventEmitter);",
        );
    }
    for (date, flags) in [("2025-06-01", &["nodejs_compat"][..]), ("2026-11-01", &[])] {
        let config = pages(&folder, date, flags);
        let mut builder = builder();
        let start = Instant::now();
        build_with(&mut builder, &config).unwrap();
        println!("{date}: first build {:?}", start.elapsed());
        let times = (0..20)
            .map(|n| {
                folder.write(
                    "functions/f0.ts",
                    format!("export const onRequest = () => new Response('edit {n}');"),
                );
                let start = Instant::now();
                build_with(&mut builder, &config).unwrap();
                start.elapsed()
            })
            .collect();
        println!("{date}: edit, median of 20 {:?}", median(times));
    }
}

#[test]
#[ignore = "prints times"]
fn twenty_thousand_static_files() {
    let folder = Folder::new(&[]);
    for n in 0..20_000 {
        folder.write(
            &format!("public/{}/{n}.html", n % 200),
            format!("<h1>{n}</h1>"),
        );
    }
    let config = pages(&folder, "2025-06-01", &[]);
    let mut builder = builder();
    for name in ["first build", "rebuild", "rebuild"] {
        let start = Instant::now();
        build_with(&mut builder, &config).unwrap();
        println!("20,000 files, {name}: {:?}", start.elapsed());
    }
}
