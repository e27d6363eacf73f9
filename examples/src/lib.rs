//! Backends and devices that use imlink
