//! Random operations on one mailbox against a simple oracle. A failure prints the seed and operations.
