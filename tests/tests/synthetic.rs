//! Reports on written capture files of what the lab's kernel cannot build.

use lastseen_tests::product::binaries::Binaries;
use lastseen_tests::synthetic;

#[test]
fn reports_on_written_files_name_every_leg_and_count() {
    let ctl = Binaries::locate().expect("programs").ctl;
    for seed in [1, 106] {
        for result in synthetic::run(&ctl, seed, &[]).expect("play") {
            assert!(result.passed, "seed {seed}: {result}");
        }
    }
}
