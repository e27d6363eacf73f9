//! Logging by `defmt`, by `log`, or not at all.

macro_rules! debug {
    ($text:literal $(, $arg:expr)* $(,)?) => {{
        #[cfg(feature = "defmt")]
        defmt::debug!($text $(, $arg)*);
        #[cfg(all(feature = "log", not(feature = "defmt")))]
        log::debug!($text $(, $arg)*);
        #[cfg(not(any(feature = "defmt", feature = "log")))]
        let _ = ($(&$arg,)*);
    }};
}
