//! Lastseen.
