//! Control groups (version 2): the last resort against payloads that fork faster than they can be killed one by one.
//!
//! Used where this user may make groups below its own. What is moved into the group freezes, so it multiplies no more, and is killed
//! in one step. Payloads that end like others never get there, and pay nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A group whose members stand still; killed and removed when dropped.
#[derive(Debug)]
pub(super) struct Group {
    path: PathBuf,
}

impl Group {
    /// A new group below that of this process; `None` where there can be none.
    pub(super) fn create() -> Option<Group> {
        let path = own_group("/proc/self/cgroup", "/proc/self/mounts").ok()?;
        Group::below(&path).ok()
    }

    fn below(parent: &Path) -> io::Result<Group> {
        let path = parent.join(format!("hpo-{}", std::process::id()));
        fs::create_dir(&path)?;
        let group = Group { path };
        fs::write(group.path.join("cgroup.freeze"), "1")?;
        // Since Linux 5.14; without it a group is of no use to us.
        if group.path.join("cgroup.kill").exists() {
            Ok(group)
        } else {
            Err(io::Error::other("its kernel is older than Linux 5.14"))
        }
    }

    /// Moves a process into the group. One that is gone needs no group.
    pub(super) fn take(&self, pid: i32) {
        let _ = fs::write(self.path.join("cgroup.procs"), pid.to_string());
    }

    /// Kills everything in the group.
    pub(super) fn kill(&self) {
        let _ = fs::write(self.path.join("cgroup.kill"), "1");
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
        // Fails while the kernel still buries what was killed; an empty group that stays costs next to nothing.
        let _ = fs::remove_dir(&self.path);
    }
}

/// Whether payloads that multiply can be killed as a group.
///
/// # Errors
/// Why they cannot.
pub(crate) fn group_support() -> Result<(), String> {
    let parent = own_group("/proc/self/cgroup", "/proc/self/mounts")?;
    match Group::below(&parent) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("`{}`: {error}", parent.display())),
    }
}

/// The directory of the group that this process is in.
fn own_group(membership: &str, mounts: &str) -> Result<PathBuf, String> {
    let read = |path: &str| fs::read_to_string(path).map_err(|error| format!("`{path}`: {error}"));
    let membership = read(membership)?;
    let own = membership
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))
        .ok_or("this process is in no group of version 2")?;
    let mounts = read(mounts)?;
    let mount = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find_map(|fields| (fields.get(2) == Some(&"cgroup2")).then(|| fields[1].to_owned()))
        .ok_or("control groups of version 2 are not mounted")?;
    Ok(Path::new(&mount).join(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_found_from_membership_and_mounts() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let mounts = file(
            "mounts",
            "tmpfs /tmp tmpfs rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n",
        );
        let membership = file("cgroup", "4:memory:/x\n0::/user.slice/me\n");
        let found = own_group(&membership, &mounts);
        assert_eq!(found, Ok(PathBuf::from("/sys/fs/cgroup/user.slice/me")));
        let none = file("none", "4:memory:/x\n");
        let message = own_group(&none, &mounts).unwrap_err();
        assert_eq!(message, "this process is in no group of version 2");
        let message = own_group(&membership, &none).unwrap_err();
        assert_eq!(message, "control groups of version 2 are not mounted");
    }
}
