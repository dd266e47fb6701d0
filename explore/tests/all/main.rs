//! The explorer: what it proves within a bound, and that it finds what is wrong.
#![allow(clippy::wildcard_enum_match_arm, reason = "a planted fault concerns one kind of message")]

mod bounds;
mod faults;
