//! The cluster for real: a thread that runs the programs of Slurm one after another, so that the manager never waits for them.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::cluster::{Answer, Cluster, Phase, Request};
use super::command::Commands;

/// Where requests are handed in.
#[derive(Debug)]
pub(super) struct Desk {
    begin: Instant,
    commands: Commands,
    requests: Option<Sender<Request>>,
    answers: Receiver<Answer>,
    bell: UnixStream,
    clerk: Option<JoinHandle<()>>,
}

impl Desk {
    /// Opens a desk with its thread.
    pub(super) fn open(commands: Commands) -> io::Result<Desk> {
        let (requests, incoming) = channel();
        let (outgoing, answers) = channel();
        let (bell, ringer) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        ringer.set_nonblocking(true)?;
        let own = commands.clone();
        let clerk = std::thread::Builder::new()
            .name("slurm".to_owned())
            .spawn(move || serve(&own, &incoming, &outgoing, ringer))?;
        Ok(Desk {
            begin: Instant::now(),
            commands,
            requests: Some(requests),
            answers,
            bell,
            clerk: Some(clerk),
        })
    }
}

fn serve(commands: &Commands, requests: &Receiver<Request>, answers: &Sender<Answer>, mut bell: UnixStream) {
    for request in requests {
        let answer = match request {
            Request::Submit { batch, size } => Answer::Submitted {
                batch,
                id: commands.submit(batch, size),
            },
            Request::List { question } => Answer::Listed {
                question,
                jobs: commands.list(),
            },
            Request::Cancel { jobs } => {
                Commands::cancel(&jobs);
                continue;
            }
        };
        if answers.send(answer).is_err() {
            return;
        }
        // A bell that is full rings already.
        let _ = bell.write(&[0]);
    }
}

impl Cluster for Desk {
    fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    fn ask(&mut self, request: Request) {
        if let Some(requests) = &self.requests {
            // The thread ends only after this end of the channel.
            let _ = requests.send(request);
        }
    }

    fn answers(&mut self) -> Vec<Answer> {
        let mut buffer = [0; 64];
        while matches!(io::Read::read(&mut &self.bell, &mut buffer), Ok(count) if count > 0) {}
        self.answers.try_iter().collect()
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.bell.as_fd())
    }

    fn close(&mut self, kept: &BTreeSet<u32>) {
        self.requests = None;
        if let Some(clerk) = self.clerk.take() {
            // What is being submitted must be known before it can be cancelled.
            let _ = clerk.join();
        }
        let listed = self.commands.list().unwrap_or_default();
        let left = listed
            .into_iter()
            .filter(|job| !matches!(job.phase, Phase::Ended(_)) && !kept.contains(&job.element.batch));
        Commands::cancel(&left.map(|job| job.id).collect::<Vec<_>>());
    }
}
