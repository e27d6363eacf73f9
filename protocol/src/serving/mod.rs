//! The IM-server's end of a session.
