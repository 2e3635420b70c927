//! The default.

use super::{Entry, gp};

pub(super) const ENTRY: Entry = Entry { name: "auto", summary: "x", settings: gp::ENTRY.settings, build: gp::ENTRY.build };
