//! `hpo lineage`.

use protocol::exit;
use serde_json::Value;

use super::arguments::LineageArguments;
use super::error::CliError;
use super::inspect::find;
use super::open::Opened;
use super::output::{Output, print, remark};
use crate::report::Lineage;

impl Output for Lineage<'_> {
    fn json(&self) -> Value {
        Lineage::json(self)
    }

    fn text(&self) -> String {
        Lineage::text(self)
    }
}

pub(super) fn lineage(arguments: &LineageArguments) -> Result<u8, CliError> {
    let opened = Opened::read(&arguments.directory)?;
    let state = opened.truthful_state();
    let point = match (arguments.point, state.best()) {
        (Some(id), _) => find(&state, id)?,
        (None, Some(best)) => best,
        (None, None) => {
            remark("no point has a loss yet; `--point ID` chooses one without");
            return Ok(exit::FAILED);
        }
    };
    print(&Lineage::of(&state, point), arguments.json)?;
    Ok(exit::DONE)
}
