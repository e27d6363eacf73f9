//! What can go wrong in the store itself, apart from the answers of each operation.

/// The store could not do it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The store does not answer, is loading, read-only, or has no quorum. A write may have been executed.
    #[error("the store is away: {0}")]
    Away(String),
    /// The store is out of memory or disk and takes no new work; acknowledgements still work.
    #[error("the store is full: {0}")]
    Full(String),
    /// The store holds something that this version cannot read, or is configured in a way that loses data.
    #[error("the store is not usable: {0}")]
    Unusable(String),
}
