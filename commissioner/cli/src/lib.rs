//! The command line of the [`commissioner`]: each command is a file in [`cmd`], its outcome for scripts is in
//! [`cmd::exit`], and what it says goes through [`output`]. What the commands do is the library's.

pub mod cmd;
mod edn;
mod log_time;
pub mod output;
mod program;
mod steps;
pub mod stop;
#[cfg(test)]
mod testing;
