//! The loop that connects steering, the journal and a backend.

mod plan;
mod steering;
