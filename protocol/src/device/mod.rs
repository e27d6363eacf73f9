//! The device's end of a session.
