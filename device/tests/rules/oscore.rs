//! oscore
