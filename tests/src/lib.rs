//! Drives observer from outside.
