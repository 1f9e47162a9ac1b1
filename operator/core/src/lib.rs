//! Placeholder text replaced by the first real module.
