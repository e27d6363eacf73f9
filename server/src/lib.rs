//! The IM-server: holds the long connections of devices
