//! What each evaluation gets of the machine: GPUs, and threads.
//!
//! Running evaluations have slots, numbered from 0; a slot stands for certain GPUs, so that no two evaluations meet on one unless that
//! is asked for. The variables are those that libraries of all kinds look at; nobody is forced to.

use std::path::Path;

use protocol::Problem;
use protocol::task_options::TaskOptions;
use serde::{Deserialize, Serialize};

/// Which GPUs a process may see.
const VISIBLE: &str = "CUDA_VISIBLE_DEVICES";
/// How many threads libraries start.
const THREADS: [&str; 7] = [
    protocol::environment::CPUS,
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
];

/// How the machine is divided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shares {
    gpus: Option<GpuShare>,
    /// Threads of each evaluation.
    cpus: Option<u32>,
    /// GPUs of this machine, as they are named to processes.
    #[serde(skip)]
    found: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum GpuShare {
    /// So many evaluations share a GPU.
    PerGpu(u32),
    /// Each evaluation has so many GPUs.
    PerEvaluation(u32),
}

impl Shares {
    /// How the options divide the machine, if they do.
    ///
    /// # Errors
    /// All that is wrong about them, with pointers to the keys.
    pub(crate) fn read(options: &TaskOptions) -> Result<Option<Shares>, Vec<Problem>> {
        let keys = [
            ("evaluationsPerGpu", options.evaluations_per_gpu),
            ("gpusPerEvaluation", options.gpus_per_evaluation),
            ("cpusPerEvaluation", options.cpus_per_evaluation),
        ];
        let zero = keys.iter().filter(|(_, count)| *count == Some(0));
        let mut problems: Vec<Problem> = zero
            .map(|(key, _)| Problem::new(format!("/{key}"), "must be at least 1, found 0"))
            .collect();
        let gpus = match (options.evaluations_per_gpu, options.gpus_per_evaluation) {
            (Some(_), Some(_)) => {
                let message =
                    "and `evaluationsPerGpu` exclude each other: either evaluations share a GPU, or each has several";
                problems.push(Problem::new("/gpusPerEvaluation", message));
                None
            }
            (Some(count), None) => Some(GpuShare::PerGpu(count)),
            (None, Some(count)) => Some(GpuShare::PerEvaluation(count)),
            (None, None) => None,
        };
        if !problems.is_empty() {
            return Err(problems);
        }
        let cpus = options.cpus_per_evaluation;
        Ok((gpus.is_some() || cpus.is_some()).then_some(Shares {
            gpus,
            cpus,
            found: Vec::new(),
        }))
    }

    /// Looks what there is on this machine.
    ///
    /// # Errors
    /// In words for the user, when there are too few GPUs for one evaluation.
    pub(crate) fn look(&mut self) -> Result<(), String> {
        self.found = gpus();
        let needed = match self.gpus {
            None => return Ok(()),
            Some(GpuShare::PerGpu(_)) => 1,
            Some(GpuShare::PerEvaluation(count)) => count as usize,
        };
        if self.found.len() < needed {
            return Err(format!(
                "an evaluation needs {needed} of the GPUs of this machine, found {}; leave `evaluationsPerGpu` and `gpusPerEvaluation` \
                 out to evaluate on the CPU, or name GPUs in {VISIBLE}",
                self.found.len()
            ));
        }
        Ok(())
    }

    /// Divides no GPUs: each evaluation sees what this process sees.
    pub(crate) fn leave_gpus(&mut self) {
        self.gpus = None;
    }

    /// Evaluations at a time on the GPUs that were found; `None` where none are asked for.
    pub(crate) fn most(&self) -> Option<usize> {
        Some(match self.gpus? {
            GpuShare::PerGpu(count) => self.found.len() * count as usize,
            GpuShare::PerEvaluation(count) => self.found.len() / count as usize,
        })
    }

    /// Evaluations at a time that fill the machine.
    pub(crate) fn whole(&self) -> u32 {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let by_cpus = self.cpus.map(|cpus| cores / cpus.max(1) as usize);
        let fewest = [self.most(), by_cpus].into_iter().flatten().min().unwrap_or(1);
        u32::try_from(fewest.max(1)).unwrap_or(u32::MAX)
    }

    /// The variables of an evaluation with this slot.
    pub(crate) fn variables(&self, slot: u32) -> Vec<(String, String)> {
        let slot = slot as usize;
        let gpus: Option<Vec<&str>> = self.gpus.map(|share| match share {
            // One after the other, so that few evaluations spread over all GPUs.
            GpuShare::PerGpu(_) => vec![self.found[slot % self.found.len()].as_str()],
            GpuShare::PerEvaluation(count) => {
                let own = self.found.chunks_exact(count as usize);
                let own = own.clone().nth(slot % own.len()).unwrap_or_default();
                own.iter().map(String::as_str).collect()
            }
        });
        let mut variables: Vec<(String, String)> = Vec::new();
        variables.extend(gpus.map(|gpus| (VISIBLE.to_owned(), gpus.join(","))));
        if let Some(cpus) = self.cpus {
            variables.extend(THREADS.map(|name| (name.to_owned(), cpus.to_string())));
        }
        variables
    }
}

/// The GPUs of this machine that evaluations may see, as they are named to processes.
pub(crate) fn gpus() -> Vec<String> {
    visible_gpus(
        std::env::var(VISIBLE).ok().as_deref(),
        Path::new("/proc/driver/nvidia/gpus"),
    )
}

/// The GPUs that `visible` names, else those that the driver lists.
fn visible_gpus(visible: Option<&str>, driver: &Path) -> Vec<String> {
    if let Some(list) = visible {
        // As CUDA reads it: what follows an invalid entry does not count.
        let named = list
            .split(',')
            .map(str::trim)
            .take_while(|name| !name.is_empty() && *name != "-1");
        return named.map(str::to_owned).collect();
    }
    let count = std::fs::read_dir(driver).map_or(0, Iterator::count);
    (0..count).map(|number| number.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shares(options: &serde_json::Value, gpus: &[&str]) -> Shares {
        let options = TaskOptions::from_map(options.as_object().unwrap()).unwrap().0;
        let shares = Shares::read(&options).unwrap().unwrap();
        Shares {
            found: gpus.iter().map(|name| (*name).to_owned()).collect(),
            ..shares
        }
    }

    fn visible(shares: &Shares, slots: u32) -> Vec<String> {
        (0..slots).map(|slot| shares.variables(slot)[0].1.clone()).collect()
    }

    #[test]
    fn slots_stand_for_gpus() {
        let packed = shares(&json!({"evaluationsPerGpu": 2}), &["0", "GPU-7"]);
        assert_eq!(packed.most(), Some(4));
        assert_eq!(visible(&packed, 4), ["0", "GPU-7", "0", "GPU-7"]);
        let wide = shares(&json!({"gpusPerEvaluation": 2}), &["0", "1", "2", "3", "4"]);
        assert_eq!(wide.most(), Some(2));
        assert_eq!(visible(&wide, 2), ["0,1", "2,3"]);
    }

    #[test]
    fn threads_are_limited_without_gpus_too() {
        let shares = shares(&json!({"cpusPerEvaluation": 3}), &[]);
        let variables = shares.variables(5);
        assert_eq!((shares.most(), variables.len()), (None, 7));
        assert!(variables.contains(&("OMP_NUM_THREADS".to_owned(), "3".to_owned())));
    }

    #[test]
    fn gpus_are_those_that_are_visible() {
        let nowhere = Path::new("/nowhere/at/all");
        assert_eq!(visible_gpus(Some("2, GPU-a,-1,3"), nowhere), ["2", "GPU-a"]);
        assert_eq!(visible_gpus(Some(""), nowhere), [""; 0]);
        assert_eq!(visible_gpus(None, nowhere), [""; 0]);
        let driver = tempfile::tempdir().unwrap();
        std::fs::create_dir(driver.path().join("0000:01:00.0")).unwrap();
        assert_eq!(visible_gpus(None, driver.path()), ["0"]);
    }

    #[test]
    fn what_cannot_be_shared_is_told() {
        let read = |options: serde_json::Value| {
            let options = TaskOptions::from_map(options.as_object().unwrap()).unwrap().0;
            Shares::read(&options).unwrap_err()[0].to_string()
        };
        assert_eq!(
            read(json!({"cpusPerEvaluation": 0})),
            "at `/cpusPerEvaluation`: must be at least 1, found 0"
        );
        assert_eq!(
            read(json!({"evaluationsPerGpu": 2, "gpusPerEvaluation": 1})),
            "at `/gpusPerEvaluation`: and `evaluationsPerGpu` exclude each other: either evaluations share a GPU, or each has several"
        );
    }
}
