//! Containers: the command line that runs a command in an image.
//!
//! The image is read-only. What a command may write, its own directory above all, is bound at the path that it has on this
//! machine, and is the working directory, so that the same paths mean the same inside and outside.

use std::path::{Path, PathBuf};

use protocol::error::Problem;
use protocol::task_options::{ContainerRuntime, TaskOptions};

use super::schedule::quoted;

/// What runs images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runtime {
    Docker,
    Podman,
    Apptainer,
    Singularity,
}

/// In this order they are looked for: those that need neither a daemon nor privileges come first.
const RUNTIMES: [Runtime; 4] = [
    Runtime::Apptainer,
    Runtime::Singularity,
    Runtime::Podman,
    Runtime::Docker,
];

/// An image, and how it is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Container {
    runtime: Runtime,
    image: String,
    /// Further arguments of the runtime, as a shell reads them.
    extra: String,
    /// Whether a first process that hands signals on is to be had.
    init: bool,
    /// User and group, for runtimes in which files would belong to somebody else.
    user: (u32, u32),
}

/// The containers of a task.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Containers {
    pub(crate) steering: Option<Container>,
    pub(crate) evaluation: Option<Container>,
    /// A program to be put before a `steeringExec` that is the argument list of docker, as phpo takes it.
    pub(crate) before_steering: Option<&'static str>,
}

/// A name for the container of the command that runs in `directory`, which no other container of this machine has.
pub(crate) fn container_name(directory: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let path = directory.as_os_str().as_bytes();
    let backwards: Vec<u8> = path.iter().rev().copied().collect();
    format!("hpo-{:08x}{:08x}", crc32c::crc32c(path), crc32c::crc32c(&backwards))
}

/// What a command in a container sees of this machine.
#[derive(Debug)]
pub(crate) struct Surroundings<'a> {
    pub(crate) work_directory: &'a Path,
    pub(crate) writable: Vec<&'a Path>,
    pub(crate) readable: Vec<PathBuf>,
    /// Variables to be set inside.
    pub(crate) variables: &'a [(String, String)],
    /// What no other container of this machine is called.
    pub(crate) name: String,
}

/// A command for `sh -c`, and one that removes what a killed runtime may leave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wrapped {
    pub(crate) command: String,
    pub(crate) afterwards: Option<String>,
}

impl Runtime {
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Apptainer => "apptainer",
            Self::Singularity => "singularity",
        }
    }

    /// The runtime that `wanted` names, if its program is in one of the directories of `path`.
    fn find(wanted: ContainerRuntime, path: &str) -> Option<Runtime> {
        let wanted: &[Runtime] = match wanted {
            ContainerRuntime::None => &[],
            ContainerRuntime::Auto => &RUNTIMES,
            ContainerRuntime::Docker => &[Runtime::Docker],
            ContainerRuntime::Podman => &[Runtime::Podman],
            ContainerRuntime::Apptainer => &[Runtime::Apptainer],
            ContainerRuntime::Singularity => &[Runtime::Singularity],
        };
        wanted
            .iter()
            .find(|runtime| installed(runtime.program(), path))
            .copied()
    }

    fn unpacks_images(self) -> bool {
        matches!(self, Self::Apptainer | Self::Singularity)
    }
}

pub(crate) fn installed(program: &str, path: &str) -> bool {
    std::env::split_paths(path).any(|directory| is_executable(&directory.join(program)))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// The runtimes in the directories of `path`, in the order in which they are looked for.
pub(crate) fn container_runtimes(path: &str) -> Vec<&'static str> {
    let programs = RUNTIMES.iter().map(|runtime| runtime.program());
    programs.filter(|program| installed(program, path)).collect()
}

impl Containers {
    /// The containers that `options` ask for, run by what is found in the directories of `path`.
    ///
    /// # Errors
    /// Images without a runtime, or of a kind that the runtime cannot run.
    pub(crate) fn resolve(options: &TaskOptions, path: &str) -> Result<Containers, Vec<Problem>> {
        let wanted = options.container_runtime.unwrap_or_default();
        if wanted == ContainerRuntime::None {
            return Ok(Containers::default());
        }
        let mut problems = Vec::new();
        let found = Runtime::find(wanted, path);
        let mut container = |key: &str, image: &Option<String>| {
            let image = image.as_deref().map(str::trim).filter(|image| !image.is_empty())?;
            let Some(runtime) = found else {
                problems.push(missing(key, &format!("container `{image}`"), wanted));
                return None;
            };
            match image_for(runtime, image) {
                Ok(image) => Some(Container {
                    runtime,
                    image,
                    extra: options.alrb_args.clone().unwrap_or_default(),
                    init: runtime == Runtime::Docker || installed("catatonit", path),
                    user: (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw()),
                }),
                Err(message) => {
                    problems.push(Problem::new(format!("/{key}"), message));
                    None
                }
            }
        };
        let steering = container("steeringContainer", &options.steering_container);
        let evaluation = container("evaluationContainer", &options.evaluation_container);
        let command = options.steering_exec.as_deref().unwrap_or_default().trim_start();
        let mut before_steering = None;
        if steering.is_none() && options.steering_container.is_none() && command.starts_with("run ") {
            // The argument list of docker, which podman understands as well.
            let docker = match wanted {
                ContainerRuntime::Docker => Runtime::find(ContainerRuntime::Docker, path),
                ContainerRuntime::Podman => Runtime::find(ContainerRuntime::Podman, path),
                ContainerRuntime::Auto => Runtime::find(ContainerRuntime::Docker, path)
                    .or_else(|| Runtime::find(ContainerRuntime::Podman, path)),
                _ => None,
            };
            match docker {
                Some(runtime) => before_steering = Some(runtime.program()),
                None => problems.push(Problem::new(
                    "/steeringExec",
                    "begins with `run`, the arguments of docker as phpo takes them, but neither docker nor podman can be found; \
                     install one of them, or write the command that runs on this machine",
                )),
            }
        }
        if problems.is_empty() {
            Ok(Containers {
                steering,
                evaluation,
                before_steering,
            })
        } else {
            Err(problems)
        }
    }
}

impl Containers {
    /// Refuses directories that a runtime cannot bind because of a letter in their name.
    ///
    /// # Errors
    /// In words for the user.
    pub(crate) fn check_paths(&self, paths: &[&Path]) -> Result<(), String> {
        for container in [&self.steering, &self.evaluation].into_iter().flatten() {
            let runtime = container.runtime;
            let letters: &[char] = if runtime.unpacks_images() { &[':', ','] } else { &[':'] };
            for path in paths {
                let shown = path.display().to_string();
                if let Some(letter) = shown.chars().find(|letter| letters.contains(letter)) {
                    return Err(format!(
                        "the directory `{}` must not have `{letter}` in its path: {} cannot show it to a container; rename it, or \
                         choose another one",
                        shown.escape_debug(),
                        runtime.program()
                    ));
                }
            }
        }
        Ok(())
    }
}

fn missing(key: &str, what: &str, wanted: ContainerRuntime) -> Problem {
    let programs = match wanted {
        ContainerRuntime::Docker => "`docker` is not",
        ContainerRuntime::Podman => "`podman` is not",
        ContainerRuntime::Apptainer => "`apptainer` is not",
        ContainerRuntime::Singularity => "`singularity` is not",
        _ => "none of `apptainer`, `singularity`, `podman`, `docker` is",
    };
    Problem::new(
        format!("/{key}"),
        format!(
            "{what} cannot be started: {programs} in PATH; install it, or pass `--containerRuntime none` to run the command on \
             this machine without it"
        ),
    )
}

/// The name of `image` as `runtime` takes it.
fn image_for(runtime: Runtime, image: &str) -> Result<String, String> {
    if image.starts_with('-')
        || image
            .chars()
            .any(|letter| letter.is_control() || letter.is_whitespace())
    {
        return Err(format!("`{}` is no name of an image", image.escape_debug()));
    }
    let path = Path::new(image);
    let is_file = image.starts_with(['/', '.']) || path.exists();
    if runtime.unpacks_images() {
        if is_file {
            return std::fs::canonicalize(path)
                .map(|path| path.display().to_string())
                .map_err(|error| format!("image `{image}` cannot be read: {error}"));
        }
        return Ok(if image.contains("://") {
            image.to_owned()
        } else {
            format!("docker://{image}")
        });
    }
    if is_file {
        return Err(format!(
            "image `{image}` is a file or directory, which {} does not run; use apptainer, or the name of an image",
            runtime.program()
        ));
    }
    match image.split_once("://") {
        None => Ok(image.to_owned()),
        Some(("docker", name)) => Ok(name.to_owned()),
        Some((scheme, _)) => Err(format!(
            "image `{image}` begins with `{scheme}://`, which {} does not know; use apptainer, or `docker://…`",
            runtime.program()
        )),
    }
}

impl Container {
    /// The command that runs `command`, for a shell of the image, in the image.
    pub(crate) fn wrap(&self, command: &str, surroundings: &Surroundings<'_>) -> Wrapped {
        if self.runtime.unpacks_images() {
            self.wrap_apptainer(command, surroundings)
        } else {
            self.wrap_docker(command, surroundings)
        }
    }

    fn wrap_docker(&self, command: &str, surroundings: &Surroundings<'_>) -> Wrapped {
        let program = self.runtime.program();
        let mut words = vec![format!("exec {program} run --rm --read-only --tmpfs /tmp")];
        if self.init {
            words.push("--init".to_owned());
        }
        words.push(format!("--name {}", quoted(&surroundings.name)));
        match self.runtime {
            // Whoever runs it is root inside and owns what is written, also where the image says another user.
            Runtime::Podman => words.push("--user 0:0".to_owned()),
            _ => words.push(format!("--user {}:{}", self.user.0, self.user.1)),
        }
        for path in &surroundings.writable {
            let path = path.display().to_string();
            words.push(format!("-v {}", quoted(&format!("{path}:{path}"))));
        }
        for path in &surroundings.readable {
            let path = path.display().to_string();
            words.push(format!("-v {}", quoted(&format!("{path}:{path}:ro"))));
        }
        words.push(format!(
            "-w {}",
            quoted(&surroundings.work_directory.display().to_string())
        ));
        for (name, value) in surroundings.variables.iter().filter(|(name, _)| name != "PATH") {
            words.push(format!("-e {}", quoted(&format!("{name}={value}"))));
        }
        if let Some(devices) = devices(surroundings.variables) {
            match self.runtime {
                Runtime::Podman => {
                    words.extend(
                        devices
                            .split(',')
                            .map(|device| format!("--device {}", quoted(&format!("nvidia.com/gpu={device}")))),
                    );
                }
                _ => words.push(format!("--gpus {}", quoted(&format!("\"device={devices}\"")))),
            }
        }
        self.finish(&mut words, "--entrypoint /bin/sh", "-c", command);
        Wrapped {
            command: words.join(" "),
            afterwards: Some(format!(
                // Twice: a daemon may be about to create what its client, which is dead, has asked for.
                "timeout 60 {program} rm -f {name}; sleep 1; timeout 60 {program} rm -f {name}",
                name = quoted(&surroundings.name)
            )),
        }
    }

    fn wrap_apptainer(&self, command: &str, surroundings: &Surroundings<'_>) -> Wrapped {
        // Variables of this machine are inherited; only PATH is that of the image.
        let mut words = vec![format!("exec {} exec --no-home", self.runtime.program())];
        for path in &surroundings.writable {
            words.push(format!("--bind {}", quoted(&path.display().to_string())));
        }
        for path in &surroundings.readable {
            let path = path.display().to_string();
            words.push(format!("--bind {}", quoted(&format!("{path}:{path}:ro"))));
        }
        words.push(format!(
            "--pwd {}",
            quoted(&surroundings.work_directory.display().to_string())
        ));
        if devices(surroundings.variables).is_some() {
            words.push("--nv".to_owned());
        }
        self.finish(&mut words, "", "/bin/sh -c", command);
        Wrapped {
            command: words.join(" "),
            afterwards: None,
        }
    }

    fn finish(&self, words: &mut Vec<String>, entry: &str, shell: &str, command: &str) {
        let extra = self.extra.trim();
        words.extend(
            [extra, entry]
                .into_iter()
                .filter(|text| !text.is_empty())
                .map(str::to_owned),
        );
        words.push(quoted(&self.image));
        words.push(shell.to_owned());
        words.push(quoted(command));
    }
}

/// The GPUs that `variables` give to the command.
fn devices(variables: &[(String, String)]) -> Option<&str> {
    let (_, devices) = variables.iter().find(|(name, _)| name == "CUDA_VISIBLE_DEVICES")?;
    Some(devices.as_str()).filter(|devices| !devices.is_empty() && *devices != "-1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(runtime: Runtime, image: &str) -> Container {
        Container {
            runtime,
            image: image_for(runtime, image).unwrap(),
            extra: "--network none".to_owned(),
            init: runtime == Runtime::Docker,
            user: (1000, 100),
        }
    }

    fn wrapped(runtime: Runtime, image: &str, devices: &str) -> Wrapped {
        let variables = [
            ("HPO_POINT_ID".to_owned(), "7".to_owned()),
            ("CUDA_VISIBLE_DEVICES".to_owned(), devices.to_owned()),
            ("PATH".to_owned(), "/usr/bin".to_owned()),
        ];
        let surroundings = Surroundings {
            work_directory: Path::new("/task/it's/workDir"),
            writable: vec![Path::new("/task/it's")],
            readable: vec![PathBuf::from("/data")],
            variables: &variables,
            name: "hpo-1-7-2".to_owned(),
        };
        container(runtime, image).wrap("train --input 'a b' > log", &surroundings)
    }

    #[test]
    fn docker_gets_the_directory_the_variables_and_the_devices() {
        let Wrapped { command, afterwards } = wrapped(Runtime::Docker, "docker://me/train:1", "0,2");
        insta::assert_snapshot!(command, @r#"exec docker run --rm --read-only --tmpfs /tmp --init --name hpo-1-7-2 --user 1000:100 -v '/task/it'\''s:/task/it'\''s' -v /data:/data:ro -w '/task/it'\''s/workDir' -e HPO_POINT_ID=7 -e CUDA_VISIBLE_DEVICES=0,2 --gpus '"device=0,2"' --network none --entrypoint /bin/sh me/train:1 -c 'train --input '\''a b'\'' > log'"#);
        insta::assert_snapshot!(afterwards.unwrap(), @r#"timeout 60 docker rm -f hpo-1-7-2; sleep 1; timeout 60 docker rm -f hpo-1-7-2"#);
    }

    #[test]
    fn podman_names_each_device() {
        insta::assert_snapshot!(wrapped(Runtime::Podman, "me/train:1", "0,2").command, @r#"exec podman run --rm --read-only --tmpfs /tmp --name hpo-1-7-2 --user 0:0 -v '/task/it'\''s:/task/it'\''s' -v /data:/data:ro -w '/task/it'\''s/workDir' -e HPO_POINT_ID=7 -e CUDA_VISIBLE_DEVICES=0,2 --device nvidia.com/gpu=0 --device nvidia.com/gpu=2 --network none --entrypoint /bin/sh me/train:1 -c 'train --input '\''a b'\'' > log'"#);
    }

    #[test]
    fn apptainer_inherits_the_variables_and_leaves_nothing_behind() {
        let Wrapped { command, afterwards } = wrapped(Runtime::Apptainer, "me/train:1", "");
        insta::assert_snapshot!(command, @r#"exec apptainer exec --no-home --bind '/task/it'\''s' --bind /data:/data:ro --pwd '/task/it'\''s/workDir' --network none docker://me/train:1 /bin/sh -c 'train --input '\''a b'\'' > log'"#);
        assert_eq!(afterwards, None);
    }

    #[test]
    fn paths_that_a_runtime_would_read_otherwise_are_refused() {
        let told = |runtime: Runtime, path: &str| {
            let containers = Containers {
                evaluation: Some(container(runtime, "docker://me/train:1")),
                ..Containers::default()
            };
            containers.check_paths(&[Path::new(path)]).err()
        };
        let message = told(Runtime::Docker, "/data/run:1").unwrap();
        insta::assert_snapshot!(message, @"the directory `/data/run:1` must not have `:` in its path: docker cannot show it to a container; rename it, or choose another one");
        assert!(
            told(Runtime::Apptainer, "/data/a,b")
                .unwrap()
                .contains("`,` in its path: apptainer")
        );
        assert_eq!(told(Runtime::Podman, "/data/a,b"), None);
        assert_eq!(told(Runtime::Apptainer, "/data/a b"), None);
    }

    #[test]
    fn images_of_the_wrong_kind_are_refused_with_a_remedy() {
        let messages: Vec<String> = [
            (Runtime::Docker, "/images/train.sif"),
            (Runtime::Podman, "oras://me/train"),
            (Runtime::Apptainer, "./nowhere.sif"),
            (Runtime::Docker, "--privileged"),
            (Runtime::Apptainer, "a b"),
        ]
        .iter()
        .map(|(runtime, image)| image_for(*runtime, image).unwrap_err())
        .collect();
        insta::assert_snapshot!(messages.join("\n"), @r#"
image `/images/train.sif` is a file or directory, which docker does not run; use apptainer, or the name of an image
image `oras://me/train` begins with `oras://`, which podman does not know; use apptainer, or `docker://…`
image `./nowhere.sif` cannot be read: No such file or directory (os error 2)
`--privileged` is no name of an image
`a b` is no name of an image
"#);
    }

    fn problems(options: &TaskOptions, path: &Path) -> String {
        let problems = Containers::resolve(options, &path.display().to_string()).unwrap_err();
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_missing_runtime_is_named_and_the_first_that_is_there_is_taken() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let mut options = TaskOptions {
            steering_container: Some("me/steer".into()),
            evaluation_container: Some("docker://me/train".into()),
            ..TaskOptions::default()
        };
        insta::assert_snapshot!(problems(&options, directory.path()), @r#"
at `/steeringContainer`: container `me/steer` cannot be started: none of `apptainer`, `singularity`, `podman`, `docker` is in PATH; install it, or pass `--containerRuntime none` to run the command on this machine without it
at `/evaluationContainer`: container `docker://me/train` cannot be started: none of `apptainer`, `singularity`, `podman`, `docker` is in PATH; install it, or pass `--containerRuntime none` to run the command on this machine without it
"#);
        options.container_runtime = Some(ContainerRuntime::Podman);
        insta::assert_snapshot!(problems(&options, directory.path()), @r#"
at `/steeringContainer`: container `me/steer` cannot be started: `podman` is not in PATH; install it, or pass `--containerRuntime none` to run the command on this machine without it
at `/evaluationContainer`: container `docker://me/train` cannot be started: `podman` is not in PATH; install it, or pass `--containerRuntime none` to run the command on this machine without it
"#);
        for program in ["docker", "podman"] {
            let path = directory.path().join(program);
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        options.container_runtime = None;
        let found = Containers::resolve(&options, &directory.path().display().to_string()).unwrap();
        assert_eq!(found.steering.unwrap().runtime, Runtime::Podman);
        assert_eq!(found.evaluation.unwrap().image, "me/train");
        options.container_runtime = Some(ContainerRuntime::None);
        assert_eq!(Containers::resolve(&options, "").unwrap(), Containers::default());
    }

    #[test]
    fn the_argument_list_of_docker_is_given_to_docker() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let options = TaskOptions {
            steering_exec: Some("run --rm image /bin/bash -c steering".into()),
            ..TaskOptions::default()
        };
        insta::assert_snapshot!(problems(&options, directory.path()), @r#"at `/steeringExec`: begins with `run`, the arguments of docker as phpo takes them, but neither docker nor podman can be found; install one of them, or write the command that runs on this machine"#);
        let path = directory.path().join("docker");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let found = Containers::resolve(&options, &directory.path().display().to_string()).unwrap();
        assert_eq!(found.before_steering, Some("docker"));
    }
}
