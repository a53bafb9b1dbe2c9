//! Findings on real servers.
