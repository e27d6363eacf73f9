//! End to end, faults and conformance, with real processes
