//! Which evaluation this is, and the ids that MLflow knows it by.

use protocol::environment;
use sha2::{Digest, Sha256};

use crate::dataset::fetch::hex;

/// Names of task, segment, point and attempt.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Identity {
    /// The task, `evaluation` for a run by hand.
    pub task: String,
    /// The segment, in a task with segments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment: Option<String>,
    /// The point's id; for a run by hand a short hash of the point.
    pub point: String,
    /// The attempt, from 1.
    pub attempt: String,
}

impl Identity {
    /// From the variables of our manager, else those of PanDA, else derived from the point and `model_id`.
    pub fn new(variable: impl Fn(&str) -> Option<String>, point: &str, model_id: Option<u32>) -> Self {
        let variable = |name: &str| variable(name).filter(|text| !text.is_empty());
        Self {
            task: variable(environment::TASK)
                .or_else(|| variable("PanDA_TaskID"))
                .unwrap_or_else(|| "evaluation".to_owned()),
            segment: variable(environment::SEGMENT).or_else(|| model_id.map(|id| id.to_string())),
            point: variable(environment::POINT_ID)
                .unwrap_or_else(|| hex(&Sha256::digest(point.as_bytes()))[..8].to_owned()),
            attempt: variable(environment::ATTEMPT)
                .or_else(|| variable("PANDAID"))
                .unwrap_or_else(|| "1".to_owned()),
        }
    }

    /// The experiment's name: the task, with its segment.
    #[must_use]
    pub fn experiment(&self) -> String {
        match &self.segment {
            Some(segment) => format!("{}/{segment}", self.task),
            None => self.task.clone(),
        }
    }

    /// 18 digits, the same for all points of a segment: archives may be unpacked over one another.
    #[must_use]
    pub fn experiment_id(&self) -> String {
        let hash = Sha256::digest(format!("{} / {}", self.task, self.segment.as_deref().unwrap_or("")).as_bytes());
        let number = hash[..8]
            .iter()
            .fold(0u64, |number, byte| number << 8 | u64::from(*byte));
        (100_000_000_000_000_000 + number % 900_000_000_000_000_000).to_string()
    }

    /// 32 hexadecimal digits, different for each attempt.
    #[must_use]
    pub fn run_id(&self) -> String {
        let segment = self.segment.as_deref().unwrap_or("");
        let name = format!("{} / {segment} / {} / {}", self.task, self.point, self.attempt);
        hex(&Sha256::digest(name.as_bytes()))[..32].to_owned()
    }

    /// What people see: `point-3`, with the attempt after the first.
    #[must_use]
    pub fn run_name(&self) -> String {
        if self.attempt == "1" {
            format!("point-{}", self.point)
        } else {
            format!("point-{}-attempt-{}", self.point, self.attempt)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(point: &str, attempt: &str) -> Identity {
        Identity {
            task: "t".to_owned(),
            segment: None,
            point: point.to_owned(),
            attempt: attempt.to_owned(),
        }
    }

    #[test]
    fn ids_have_the_form_that_mlflow_wants() {
        let one = identity("1", "1");
        assert!(one.experiment_id().len() == 18 && one.experiment_id().bytes().all(|byte| byte.is_ascii_digit()));
        assert!(one.run_id().len() == 32 && one.run_id().bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_eq!(one.experiment_id(), identity("2", "1").experiment_id());
        assert_ne!(one.run_id(), identity("1", "2").run_id());
        assert_ne!(one.run_id(), identity("2", "1").run_id());
    }

    #[test]
    fn variables_win_over_derived_names() {
        let panda = |name: &str| (name == "PanDA_TaskID").then(|| "77".to_owned());
        let derived = Identity::new(panda, "{}", Some(3));
        assert_eq!((derived.task.as_str(), derived.segment.as_deref()), ("77", Some("3")));
        assert_eq!(derived.point, "44136fa3");
        let ours = |name: &str| Some(format!("<{name}>"));
        assert_eq!(Identity::new(ours, "{}", None).point, "<HPO_POINT_ID>");
    }
}
