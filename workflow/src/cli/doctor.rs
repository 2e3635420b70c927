//! `hpo doctor`: what this machine and the file system of a directory can do of what `hpo` leans on.

mod storage;

use std::fmt::Write as _;
use std::path::Path;

use protocol::exit;
use rustix::process::{Pid, PidfdFlags, Resource};
use serde_json::{Value, json};

use super::arguments::DoctorArguments;
use super::error::CliError;
use super::manage::search_path;
use super::open::{Opened, absolute};
use super::output::{Output, print};
use crate::host;
use crate::report::{escape, table, width};
use crate::runner::group_support;
use crate::task::{TaskDirectory, container_runtimes, gpus, installed};

/// How it stands with one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    /// Works, with a drawback.
    Poor,
    /// Tasks cannot be run safely, or at all.
    Bad,
    /// Only some tasks need it.
    Absent,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Verdict::Good => "good",
            Verdict::Poor => "poor",
            Verdict::Bad => "bad",
            Verdict::Absent => "absent",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug)]
struct Probe {
    name: &'static str,
    verdict: Verdict,
    /// What was found, and what it means where it is not good.
    found: String,
}

fn probe(name: &'static str, verdict: Verdict, found: impl Into<String>) -> Probe {
    let found = found.into();
    Probe { name, verdict, found }
}

struct Report(Vec<Probe>);

impl Report {
    fn is_sound(&self) -> bool {
        self.0.iter().all(|probe| probe.verdict != Verdict::Bad)
    }
}

impl Output for Report {
    fn json(&self) -> Value {
        let probes = self.0.iter().map(|probe| {
            let Probe { name, verdict, found } = probe;
            json!({"name": name, "verdict": verdict.word(), "found": found})
        });
        json!({"sound": self.is_sound(), "probes": probes.collect::<Vec<_>>()})
    }

    fn text(&self) -> String {
        let rows = self.0.iter().map(|probe| {
            vec![
                probe.verdict.word().to_owned(),
                probe.name.to_owned(),
                escape(&probe.found),
            ]
        });
        let mut text = table(&["", "what", "found"], &rows.collect::<Vec<_>>(), width());
        text.push_str(if self.is_sound() {
            "tasks can be run here\n"
        } else {
            "tasks should not be run here: see what is bad\n"
        });
        text
    }
}

pub(super) fn doctor(arguments: &DoctorArguments) -> Result<u8, CliError> {
    let directory = absolute(&arguments.directory)?;
    if !directory.is_dir() {
        return Err(CliError::Usage(format!(
            "`{}` is not a directory; name one in which tasks are to be",
            arguments.directory.display()
        )));
    }
    let mut report = Report(Vec::new());
    report.0.extend(machine());
    report.0.extend(storage::probes(&directory));
    report.0.extend(programs()?);
    report.0.extend(task(&directory));
    print(&report, arguments.json)?;
    Ok(if report.is_sound() {
        exit::DONE
    } else {
        exit::INFRASTRUCTURE
    })
}

fn machine() -> Vec<Probe> {
    let system = rustix::system::uname();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut kernel = format!(
        "{} {}, {cores} cores",
        system.sysname().to_string_lossy(),
        system.release().to_string_lossy()
    );
    if let Some(mib) = memory() {
        let _ = write!(kernel, ", {mib} MiB of memory");
    }
    let own = std::process::id() as i32;
    let told_apart = host::start_time(own).is_some() && !host::boot_id().is_empty();
    let processes = if told_apart {
        probe("processes", Verdict::Good, "are told apart by boot and start time")
    } else {
        probe(
            "processes",
            Verdict::Bad,
            "cannot be told apart: /proc must be mounted and show start times and the boot id",
        )
    };
    let watched = Pid::from_raw(own).map(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()));
    let watching = match watched {
        Some(Ok(_)) => probe("ends of processes", Verdict::Good, "are told by the kernel"),
        _ => probe(
            "ends of processes",
            Verdict::Poor,
            "are looked for 20 times a second: this kernel has no pidfd (Linux 5.3)",
        ),
    };
    let reaping = match rustix::process::set_child_subreaper(Pid::from_raw(1)) {
        Ok(()) => {
            let _ = rustix::process::set_child_subreaper(None);
            let group = group_support();
            let with = match &group {
                Ok(()) => "is killed, in a control group where it multiplies".to_owned(),
                Err(reason) => format!("is killed one by one; no control group helps: {reason}"),
            };
            probe("what evaluations leave", Verdict::Good, with)
        }
        Err(error) => probe(
            "what evaluations leave",
            Verdict::Bad,
            format!("cannot be found again: this kernel has no subreapers ({error})"),
        ),
    };
    let limit = rustix::process::getrlimit(Resource::Nofile).maximum;
    let descriptors = match limit {
        Some(most) if most < 1024 => probe(
            "open files",
            Verdict::Poor,
            format!("at most {most}, and each running evaluation takes one of the manager; raise it with `ulimit -n`"),
        ),
        _ => probe(
            "open files",
            Verdict::Good,
            limit.map_or_else(|| "without limit".to_owned(), |most| format!("at most {most}")),
        ),
    };
    let shell = if Path::new("/bin/sh").exists() {
        probe("shell", Verdict::Good, "/bin/sh")
    } else {
        probe("shell", Verdict::Bad, "there is no /bin/sh, which runs every command")
    };
    vec![
        probe("machine", Verdict::Good, kernel),
        processes,
        watching,
        reaping,
        descriptors,
        shell,
    ]
}

/// Memory of the machine in MiB.
fn memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kib >> 10)
}

fn programs() -> Result<Vec<Probe>, CliError> {
    let executable = std::env::current_exe().map_err(|source| CliError::io("the path of `hpo` is unknown", source))?;
    let path = search_path(&executable);
    let program = |name: &'static str, without: &str| {
        if installed(name, &path) {
            probe(name, Verdict::Good, "is found")
        } else {
            let found = format!("is neither beside `hpo` nor in PATH; {without}");
            probe(name, Verdict::Absent, found)
        }
    };
    let gpus = gpus();
    let gpus = match gpus.len() {
        0 => probe("GPUs", Verdict::Absent, "none is visible"),
        _ => probe("GPUs", Verdict::Good, gpus.join(", ")),
    };
    let runtimes = container_runtimes(&path);
    let containers = match runtimes.first() {
        None => probe(
            "containers",
            Verdict::Absent,
            "none of apptainer, singularity, podman, docker is in PATH",
        ),
        Some(first) => probe(
            "containers",
            Verdict::Good,
            format!(
                "{}; {first} is taken unless `--containerRuntime` says otherwise",
                runtimes.join(", ")
            ),
        ),
    };
    let slurm: Vec<&str> = ["sbatch", "squeue", "scancel", "sacct"]
        .into_iter()
        .filter(|name| installed(name, &path))
        .collect();
    let slurm = match slurm.len() {
        0 => probe("Slurm", Verdict::Absent, "sbatch is not in PATH"),
        _ => probe("Slurm", Verdict::Good, slurm.join(", ")),
    };
    Ok(vec![
        program("steering", "tasks need a `steeringExec` of their own"),
        program("evaluation", "tasks need an `evaluationExec` of their own"),
        gpus,
        containers,
        slurm,
    ])
}

/// What there is to say of a task, if the directory is one.
fn task(directory: &Path) -> Option<Probe> {
    if !TaskDirectory::new(directory.to_owned()).exists() {
        return None;
    }
    Some(match Opened::read(directory) {
        Ok(opened) => {
            let status = match &opened.state.end {
                Some(_) => "over",
                None => opened.status(),
            };
            let records = opened.contents.records;
            probe(
                "task",
                Verdict::Good,
                format!("{status}; its journal is sound, {records} records"),
            )
        }
        Err(error) => probe("task", Verdict::Bad, error.to_string()),
    })
}
