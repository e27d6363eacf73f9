//! Simulated fleets made of the real device-client
