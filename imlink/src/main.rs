//! One program for every part of imlink.

fn main() {}
