//! How exact losses are over shares of loss, legs, rates, segmentation offload and address translation.
//!
//! `cargo run --release -p lastseen-correlate --example sweep -- SEED`

use std::process::ExitCode;

#[path = "../tests/lab/mod.rs"]
mod lab;
#[path = "../tests/sweep/mod.rs"]
mod sweep;

fn main() -> ExitCode {
    let seed = std::env::args().nth(1).map_or(Ok(1), |text| text.parse()).expect("SEED: a number");
    let table = sweep::sweep(seed, &sweep::LOSS, &sweep::RATES);
    print!("{table}");
    if table.total.is_exact() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
