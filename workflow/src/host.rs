//! Who is who among processes: a process id means something only together with its host, boot and start time.

use std::fs;

use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};

/// A process that can be recognised after its id was given to another one, or the machine was started anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessIdentity {
    /// Name of the machine.
    pub(crate) host: String,
    /// Changes with every boot of the machine.
    pub(crate) boot_id: String,
    pub(crate) pid: i32,
    /// Clock ticks from boot to the start of the process.
    pub(crate) start_time: u64,
    /// The job of Slurm in which it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) job: Option<String>,
}

/// What can be said about a recorded process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Liveness {
    Alive,
    Dead,
    /// It ran on another machine.
    Elsewhere,
}

impl ProcessIdentity {
    /// This process.
    pub(crate) fn current() -> ProcessIdentity {
        // Looked up once: a runner says it of every attempt.
        static CURRENT: std::sync::OnceLock<ProcessIdentity> = std::sync::OnceLock::new();
        CURRENT
            .get_or_init(|| {
                let pid = std::process::id() as i32;
                ProcessIdentity {
                    host: host_name(),
                    boot_id: boot_id(),
                    pid,
                    start_time: start_time(pid).unwrap_or(0),
                    job: std::env::var("SLURM_JOB_ID").ok(),
                }
            })
            .clone()
    }

    /// Whether the process still runs. A zombie counts as dead.
    pub(crate) fn liveness(&self) -> Liveness {
        if self.host != host_name() {
            return Liveness::Elsewhere;
        }
        if self.boot_id != boot_id() {
            return Liveness::Dead;
        }
        match start_time(self.pid) {
            Some(start) if start == self.start_time => Liveness::Alive,
            _ => Liveness::Dead,
        }
    }

    /// A descriptor that becomes readable when the process ends; `None` if it is gone or the kernel is too old.
    pub(crate) fn descriptor(&self) -> Option<OwnedFd> {
        let descriptor = rustix::process::pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        // Checked after the descriptor exists: from here on the id cannot be given to another process unnoticed.
        (self.liveness() == Liveness::Alive).then_some(descriptor)
    }

    /// Sends a signal unless the process is gone.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.liveness() == Liveness::Alive
            && let Some(pid) = Pid::from_raw(self.pid)
        {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }
}

/// The machine's name.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The identity of this boot; empty where the kernel does not tell.
pub(crate) fn boot_id() -> String {
    static BOOT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    BOOT.get_or_init(|| {
        fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map(|text| text.trim().to_owned())
            .unwrap_or_default()
    })
    .clone()
}

/// Start time of a living process in clock ticks since boot.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    let stat = Stat::of(pid)?;
    (stat.state != 'Z' && stat.state != 'X').then_some(stat.start_time)
}

/// The fields of `/proc/<pid>/stat` that we use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stat {
    pub(crate) state: char,
    pub(crate) parent: i32,
    pub(crate) start_time: u64,
}

impl Stat {
    pub(crate) fn of(pid: i32) -> Option<Stat> {
        let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
        let text = String::from_utf8_lossy(&text);
        // The command name may contain blanks and parentheses; fields are counted behind its last parenthesis.
        let mut fields = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let start_time = fields.nth(17)?.parse().ok()?;
        Some(Stat {
            state,
            parent,
            start_time,
        })
    }
}

/// Ids of all processes of the machine.
pub(crate) fn all_processes() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// Kills every process whose environment holds `variable=value`, and returns how many there were.
///
/// The last resort for the payload of a runner that was itself killed: its descendants carry the mark of the attempt
/// in their environment wherever they went.
pub(crate) fn kill_marked(variable: &str, value: &str) -> usize {
    let mark = format!("{variable}={value}");
    let own = std::process::id() as i32;
    let mut killed = 0;
    // Repeated, because a process may fork while we look; bounded, because an unkillable one must not hold us.
    for _ in 0..50 {
        let mut found = 0;
        for pid in all_processes() {
            if pid == own {
                continue;
            }
            let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else {
                continue;
            };
            if !environment
                .split(|byte| *byte == 0)
                .any(|entry| entry == mark.as_bytes())
                || start_time(pid).is_none()
            {
                continue;
            }
            if let Some(pid) = Pid::from_raw(pid)
                && rustix::process::kill_process(pid, Signal::KILL).is_ok()
            {
                found += 1;
            }
        }
        killed += found;
        if found == 0 {
            break;
        }
        std::thread::yield_now();
    }
    killed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_its_copy_with_another_start_time_is_dead() {
        let current = ProcessIdentity::current();
        assert_eq!(current.liveness(), Liveness::Alive);
        let reused = ProcessIdentity {
            start_time: current.start_time + 1,
            ..current.clone()
        };
        assert_eq!(reused.liveness(), Liveness::Dead);
        let earlier_boot = ProcessIdentity {
            boot_id: "another".to_owned(),
            ..current.clone()
        };
        assert_eq!(earlier_boot.liveness(), Liveness::Dead);
        let elsewhere = ProcessIdentity {
            host: "another machine".to_owned(),
            ..current
        };
        assert_eq!(elsewhere.liveness(), Liveness::Elsewhere);
    }

    #[test]
    fn a_dead_process_has_no_descriptor() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let identity = ProcessIdentity {
            pid: child.id() as i32,
            ..ProcessIdentity::current()
        };
        child.wait().unwrap();
        assert!(identity.descriptor().is_none());
    }
}
