//! Tests that need the whole program.

mod commands;
mod judging;
mod publishing;
mod pytorch;
mod readers;
mod row_groups;
mod terms;
