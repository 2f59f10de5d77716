//! How often losses were real, against the confidence that was stated, for mixtures of network loss and capture loss.
//!
//! `cargo run -p lastseen-correlate --example calibration -- SEED`

#[path = "../tests/calibration/mod.rs"]
mod calibration;
#[path = "../tests/lab/mod.rs"]
mod lab;

fn main() {
    let seed = std::env::args().nth(1).map_or(Ok(1), |text| text.parse()).expect("SEED: a number");
    print!("{}", calibration::sweep(seed));
}
