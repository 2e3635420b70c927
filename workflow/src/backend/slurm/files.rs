//! The shelf for real: `slurm/` in the task directory.
//!
//! | name | what it holds |
//! | --- | --- |
//! | `name` | the name of the task in Slurm, followed by the number of a batch |
//! | `<n>/batch.json` | what the jobs of batch `n` have to do |
//! | `<n>/job.sh` | their script |
//! | `<n>/accepted` | the id that Slurm gave the batch |
//! | `<n>/<index>.log` | what a job wrote |
//! | `queue/` | attempts that wait for a pilot |
//! | `ended/` | marks of attempts that are over |

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::shelf::{Found, Shelf};
use crate::backend::Job;
use crate::files::{Durability, create_private_directory, temporary_beside, write_whole};
use crate::runner::{
    self, Assignment, Batch, Claimant, Element, EndRequest, Work, enqueue, key_of, last_line, queued, read_claimant,
    read_claimed_restarts, read_restarts, read_result, revoke,
};
use crate::state::AttemptKey;
use crate::task::{Jobs, Manner, TaskDirectory};

/// The shelf of a task.
#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
    ended: PathBuf,
    name: String,
    executable: PathBuf,
    jobs: Jobs,
    next: u32,
    largest: u32,
}

impl Files {
    /// Opens the shelf in a task directory, and makes it if it is not there.
    pub(super) fn open(directory: &TaskDirectory, executable: &Path, jobs: &Jobs) -> io::Result<Files> {
        let root = directory.slurm();
        let ended = directory.ended_marks();
        create_private_directory(&ended)?;
        create_private_directory(&root.join("queue"))?;
        let name = name_of(&root)?;
        let mut files = Files {
            root,
            ended,
            name,
            executable: executable.to_owned(),
            jobs: jobs.clone(),
            next: 1,
            largest: match jobs.manner {
                Manner::Arrays => super::command::largest_array(),
                Manner::Pilots(_) | Manner::Allocation(_) => u32::MAX,
            },
        };
        files.next = files.numbers().max().unwrap_or(0) + 1;
        Ok(files)
    }

    /// The name of the task in Slurm.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn numbers(&self) -> impl Iterator<Item = u32> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
    }

    fn batch(&self, number: u32) -> PathBuf {
        self.root.join(number.to_string())
    }
}

/// Two tasks must not have the same, wherever their directories are; a task keeps its own for ever.
fn name_of(root: &Path) -> io::Result<String> {
    let path = root.join("name");
    if let Ok(name) = fs::read_to_string(&path)
        && !name.is_empty()
    {
        return Ok(name);
    }
    let seed = format!(
        "{} {:?} {:?}",
        root.display(),
        crate::host::ProcessIdentity::current(),
        std::time::SystemTime::now()
    );
    let hash = <sha2::Sha256 as sha2::Digest>::digest(seed.as_bytes());
    let name = format!("hpo-{}", crate::files::hexadecimal(&hash[..5]));
    write_whole(&path, name.as_bytes(), Durability::PowerCut)?;
    Ok(name)
}

/// A text as one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

impl Shelf for Files {
    fn found(&self) -> Vec<Found> {
        let mut numbers: Vec<u32> = self.numbers().collect();
        numbers.sort_unstable();
        let found = numbers.into_iter().filter_map(|number| {
            let directory = self.batch(number);
            // Without it nothing was submitted.
            let batch = Batch::read(&directory).ok()?;
            let is_accepted = directory.join("accepted").exists();
            Some(Found {
                number,
                batch,
                is_accepted,
            })
        });
        found.collect()
    }

    fn create(&mut self, work: Work) -> io::Result<u32> {
        let number = self.next;
        self.next += 1;
        let directory = self.batch(number);
        create_private_directory(&directory)?;
        let text = |path: &Path| {
            path.to_str()
                .map(quoted)
                .ok_or_else(|| io::Error::other(format!("`{}` is not UTF-8", path.display())))
        };
        let script = format!(
            "#!/bin/sh\nexec {} {} {} {}\n",
            text(&self.executable)?,
            runner::SUBCOMMAND,
            runner::JOB,
            text(&directory)?
        );
        fs::write(directory.join("job.sh"), script)?;
        let batch = Batch {
            work,
            shares: self.jobs.shares.clone(),
            limit: self.jobs.limit,
            warning: self.jobs.warning,
        };
        batch.write(&directory)?;
        Ok(number)
    }

    fn accepted(&mut self, batch: u32, id: &str) {
        // Without it the batch is looked up by its name.
        let _ = fs::write(self.batch(batch).join("accepted"), id);
    }

    fn forget(&mut self, batch: u32) {
        let _ = fs::remove_dir_all(self.batch(batch));
    }

    fn claim(&self, job: &Job) -> Option<Claimant> {
        read_claimant(&job.directory)
    }

    fn has_begun_anew(&self, job: &Job, element: Element) -> bool {
        let by_now = read_restarts(&self.batch(element.batch), element.index);
        read_claimed_restarts(&job.directory).is_some_and(|then| then < by_now)
    }

    fn has_result(&self, job: &Job) -> bool {
        // A change of the directory makes a network file system look at it again.
        let probe = temporary_beside(&job.directory.join("probe"));
        let _ = fs::write(&probe, b"");
        let _ = fs::remove_file(&probe);
        read_result(&job.directory).is_some()
    }

    fn ended(&mut self) -> Vec<AttemptKey> {
        let entries = fs::read_dir(&self.ended).into_iter().flatten().flatten();
        let marks = entries.filter_map(|entry| {
            let _ = fs::remove_file(entry.path());
            key_of(entry.file_name().to_str()?)
        });
        marks.collect()
    }

    fn revoke(&mut self, job: &Job) -> bool {
        // Only a taken attempt is somebody's; where nothing can be written, nobody can claim either.
        revoke(&job.directory).unwrap_or(false)
    }

    fn request(&self, job: &Job) -> Option<EndRequest> {
        EndRequest::read(&job.directory)
    }

    fn ask_to_end(&mut self, job: &Job, request: EndRequest) {
        // A runner that does not hear it ends with its job.
        let _ = request.write(&job.directory);
    }

    fn queue(&self) -> PathBuf {
        self.root.join("queue")
    }

    fn enqueue(&mut self, number: u64, assignment: &Assignment) -> io::Result<()> {
        enqueue(&self.queue(), number, assignment)
    }

    fn queued(&self) -> Vec<AttemptKey> {
        queued(&self.queue())
    }

    fn last_words(&self, element: Element) -> Option<String> {
        last_line(&self.batch(element.batch).join(format!("{}.log", element.index)))
    }

    fn largest_array(&self) -> u32 {
        self.largest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_keeps_its_name_and_another_has_another() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let name = name_of(one.path()).unwrap();
        assert_eq!(name_of(one.path()).unwrap(), name);
        assert_ne!(name_of(two.path()).unwrap(), name);
        assert_eq!(quoted("a'b c"), r"'a'\''b c'");
    }
}
