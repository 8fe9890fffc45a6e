//! Which core a thread runs on.

use anyhow::{Result, ensure};
use core_affinity::CoreId;

/// Keeps the calling thread on this core; `None` leaves it as it is.
pub(crate) fn pin(core: Option<usize>) -> Result<()> {
    let Some(id) = core else { return Ok(()) };
    let known = core_affinity::get_core_ids().unwrap_or_default();
    ensure!(known.contains(&CoreId { id }), "core {id}: this process may run on {known:?}");
    ensure!(core_affinity::set_for_current(CoreId { id }), "sched_setaffinity refused core {id}");
    Ok(())
}
