//! Tests that need the whole program.

mod commands;
mod fitting_atlas;
mod judging;
mod publishing;
mod pytorch;
mod readers;
mod row_groups;
mod terms;
