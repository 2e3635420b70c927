//! The directory in which a payload runs.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::order::Order;
use crate::checkpoint::Restored;
use crate::files;
use crate::task::{link_name, sandbox_copy};

/// Builds it: sandbox, checkpoint, training files, input. What comes later wins over what came before.
pub(super) fn build(order: &Order, restore: &dyn Fn(&Path) -> Restored) -> io::Result<Restored> {
    let work = &order.launch.work_directory;
    match fs::create_dir(work) {
        // The manager may have made it ahead; whatever is in it comes from somebody else.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && fs::read_dir(work)?.next().is_none() => {}
        made => made?,
    }
    files::create_private_directory(&order.payload_checkpoints)?;
    sandbox_copy(&order.sandbox, work, &order.sandbox_files)
        .map_err(|(path, error)| io::Error::new(error.kind(), format!("`{}`: {error}", path.display())))?;
    let restored = restore(work);
    if let Some((list, training)) = &order.training {
        let mut names = Vec::new();
        for file in training {
            let name = link_name(file);
            names.push(name);
            if name == file {
                continue;
            }
            if !Path::new(file).exists() {
                return Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    format!("training file `{file}` is gone"),
                ));
            }
            place(work, name)?;
            symlink(file, work.join(name))?;
        }
        place(work, list)?;
        fs::write(work.join(list), serde_json::to_vec(&names)?)?;
    }
    place(work, &order.input)?;
    fs::write(work.join(&order.input), order.input_content.to_string())?;
    // A loss document that came with the sandbox or a checkpoint must not be taken for the payload's.
    let stale = [
        Some(&order.output),
        order.meta.as_ref(),
        order.metrics.as_ref().map(|metrics| &metrics.file),
    ];
    for name in stale.into_iter().flatten() {
        let _ = fs::remove_file(work.join(name));
    }
    Ok(restored)
}

/// Makes room for `name`: its directory exists, and the name is free.
fn place(work: &Path, name: &str) -> io::Result<()> {
    let path = work.join(name);
    if name.contains('/') {
        fs::create_dir_all(files::parent_of(&path))?;
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
