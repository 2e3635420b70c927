//! How much memory this process may still take: the least of what the machine, the control group and the limits of the
//! process allow.

use std::path::Path;

/// Bytes that are available, as far as the system tells.
#[must_use]
pub fn available() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let machine = of_machine(&read("/proc/meminfo"));
    let group = of_group(&read("/proc/self/cgroup"), Path::new("/sys/fs/cgroup"));
    let limit = rustix::process::getrlimit(rustix::process::Resource::As).current;
    let process = limit.map(|limit| limit.saturating_sub(field(&read("/proc/self/status"), "VmSize:").unwrap_or(0)));
    [machine, group, process].into_iter().flatten().min()
}

/// A line such as `MemAvailable:   12 kB`, in bytes.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

fn of_machine(meminfo: &str) -> Option<u64> {
    field(meminfo, "MemAvailable:")
}

/// The tightest limit of the control group and those above it, less what they use; of version 2, and of version 1.
fn of_group(groups: &str, mount: &Path) -> Option<u64> {
    let number = |path: &Path| -> Option<u64> { std::fs::read_to_string(path).ok()?.trim().parse().ok() };
    let mut least: Option<u64> = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (root, most, used) = if controllers.is_empty() {
            (mount.to_owned(), "memory.max", "memory.current")
        } else if controllers.split(',').any(|name| name == "memory") {
            (mount.join("memory"), "memory.limit_in_bytes", "memory.usage_in_bytes")
        } else {
            continue;
        };
        // Inside a container the path is often that of the host; then the mount itself is the group.
        let inner = root.join(group.trim_start_matches('/'));
        for folder in inner.ancestors().take_while(|folder| folder.starts_with(&root)) {
            if let Some(most) = number(&folder.join(most)) {
                let left = most.saturating_sub(number(&folder.join(used)).unwrap_or(0));
                least = Some(least.map_or(left, |least| least.min(left)));
            }
        }
    }
    least
}

/// `3.2 GB`, for messages.
#[must_use]
pub fn readable(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["bytes", "kB", "MB", "GB"] {
        if value < 1000.0 {
            return if unit == "bytes" {
                format!("{bytes} bytes")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

/// Reads a size such as `512MB`, `2GiB` or `1000000`.
///
/// # Errors
/// When it is none.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("expected a size such as `512MB`, `2GiB` or a number of bytes, found `{text}`");
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        "tib" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    Ok((number * factor) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_says_what_is_available() {
        assert_eq!(of_machine("MemTotal: 9 kB\nMemAvailable:   12 kB\n"), Some(12288));
        assert_eq!(of_machine(""), None);
    }

    #[test]
    fn the_tightest_control_group_counts() {
        let mount = tempfile::tempdir().unwrap();
        let inner = mount.path().join("slice/job");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(inner.join("memory.max"), "max\n").unwrap();
        let outer = mount.path().join("slice");
        std::fs::write(outer.join("memory.max"), "5000\n").unwrap();
        std::fs::write(outer.join("memory.current"), "1200\n").unwrap();
        assert_eq!(of_group("0::/slice/job\n", mount.path()), Some(3800));
        assert_eq!(of_group("0::/elsewhere\n", mount.path()), None);
        let old = mount.path().join("memory");
        std::fs::create_dir(&old).unwrap();
        std::fs::write(old.join("memory.limit_in_bytes"), "700\n").unwrap();
        std::fs::write(old.join("memory.usage_in_bytes"), "900\n").unwrap();
        assert_eq!(of_group("4:cpu,memory:/docker/abc\n", mount.path()), Some(0));
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_size("1.5GB"), Ok(1_500_000_000));
        assert_eq!(parse_size("2MiB"), Ok(2_097_152));
        assert_eq!(parse_size("0"), Ok(0));
        assert!(parse_size("much").is_err() && parse_size("3 elephants").is_err() && parse_size("-1").is_err());
        assert_eq!(readable(3_240_000_000), "3.2 GB");
        assert_eq!(readable(12), "12 bytes");
    }
}
