//! What a profile file says.
