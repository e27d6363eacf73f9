//! The route: logs devices in, assigns IM-servers, takes requests from backends and forwards them
