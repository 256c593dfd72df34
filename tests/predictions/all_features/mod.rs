//! Tests that need the whole program.

mod commands;
mod evaluation;
mod fitting_atlas;
mod honest;
mod judge;
mod publishing;
mod pytorch;
mod readers;
mod responses;
mod row_groups;
mod terms;
