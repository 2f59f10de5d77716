//! The command line as people and scripts see it, as one program.

mod byte_intervals;
mod cli;
mod diff;
mod diff_files;
mod diff_files_drops;
mod diff_files_fair;
mod diff_files_formats;
mod diff_files_refused;
mod diff_files_times;
mod diff_files_told;
mod examples;
mod fabric;
mod pieces;
mod pki;
mod report;
mod show_file;
mod support;
mod wire;
