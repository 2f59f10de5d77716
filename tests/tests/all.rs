//! The whole product in the lab, as one program.

mod bad_input;
mod certificates;
mod check;
mod impostors;
mod lifecycle;
mod offline;
mod out_of_sight;
mod probes;
mod show_node;
mod start_up;
mod synthetic;
mod trace_path;
