//! What imlink promises, asked of real processes.

mod bad_frames;
