//! From options to an engine.

use std::path::PathBuf;

use protocol::exit;

use super::arguments::EngineArguments;
use super::failure::Failure;
use super::say;
use crate::engine::{
    self, DeviceRequest, Engine, EngineError, EngineOptions, EngineRequest, HAS_EMBEDDED, Library, LibraryRequest,
    library,
};

/// An engine that runs.
pub(crate) struct Started {
    pub(crate) engine: Box<dyn Engine>,
    /// Library and how it was found, in words.
    pub(crate) origin: String,
    /// What the user should know.
    pub(crate) warning: Option<String>,
}

/// Starts the engine that was asked for. `auto` takes the embedded one where no ONNX Runtime works, unless the user
/// named a library or wants a GPU.
pub(crate) fn any(arguments: &EngineArguments) -> Result<Started, Failure> {
    if arguments.cuda_graphs && !matches!(arguments.device, DeviceRequest::Cuda(_)) {
        return Err(Failure::new(
            exit::USAGE,
            format!(
                "`--cuda-graphs` needs `--device cuda`, found `--device {}`; leave the first out or add the second",
                arguments.device
            ),
        ));
    }
    if arguments.engine == EngineRequest::Rten {
        return embedded(arguments);
    }
    let failure = match onnxruntime(arguments) {
        Ok(started) => return Ok(started),
        Err(failure) => failure,
    };
    let is_named = arguments.onnxruntime.is_some()
        || std::env::var_os(library::LIBRARY_VARIABLE).is_some_and(|value| !value.is_empty());
    let is_left = arguments.engine == EngineRequest::Auto && !matches!(arguments.device, DeviceRequest::Cuda(_));
    if is_named || !is_left || !HAS_EMBEDDED || failure.code != exit::INFRASTRUCTURE {
        return Err(failure);
    }
    let started = embedded(arguments)?;
    let warning = format!(
        "{failure}. Training goes on with the embedded engine, {}, on the CPU: it is slower, and its numbers differ in \
         the last digits; `--engine onnxruntime` fails instead",
        started.engine.version()
    );
    Ok(Started {
        warning: Some(warning),
        ..started
    })
}

fn onnxruntime(arguments: &EngineArguments) -> Result<Started, Failure> {
    let library = find_library(arguments)?;
    let engine = start(arguments, &library)?;
    Ok(Started {
        engine,
        origin: library.to_string(),
        warning: None,
    })
}

fn embedded(arguments: &EngineArguments) -> Result<Started, Failure> {
    if let DeviceRequest::Cuda(_) = arguments.device {
        return Err(Failure::new(
            exit::USAGE,
            format!(
                "`--engine rten` runs on the CPU only, found `--device {}`; leave one of them out",
                arguments.device
            ),
        ));
    }
    let engine = engine::embedded(arguments.threads.map(usize::from)).ok_or_else(|| {
        Failure::new(
            exit::USAGE,
            "this program is built without the embedded engine; build it with the feature `rten`, or use `--engine \
             onnxruntime`",
        )
    })?;
    Ok(Started {
        origin: format!("{}, a part of this program", engine.version()),
        engine,
        warning: None,
    })
}

/// Finds the library.
pub(crate) fn find_library(arguments: &EngineArguments) -> Result<Library, Failure> {
    let request = LibraryRequest {
        path: arguments.onnxruntime.clone(),
        offline: arguments.offline,
        cache: None,
        prefer_cuda: match arguments.device {
            DeviceRequest::Cpu => false,
            DeviceRequest::Cuda(_) => true,
            DeviceRequest::Auto => library::driver().is_some(),
        },
    };
    Ok(library::locate(&request)?)
}

/// Starts the engine. `auto` says aloud when it takes the CPU although there is a GPU.
pub(crate) fn start(arguments: &EngineArguments, library: &Library) -> Result<Box<dyn Engine>, Failure> {
    let threads = arguments.threads.map(usize::from);
    let start = |device| {
        let options = EngineOptions {
            device,
            threads,
            cuda_graphs: arguments.cuda_graphs,
        };
        engine::start(library, &options)
    };
    match arguments.device {
        DeviceRequest::Cpu => Ok(start(DeviceRequest::Cpu)?),
        DeviceRequest::Cuda(number) => start_cuda(number, library, &start),
        DeviceRequest::Auto if library.has_cuda() => match start_cuda(0, library, &start) {
            Ok(engine) => Ok(engine),
            Err(failure) => {
                say(&format!("warning: `--device auto` takes the CPU: {failure}"));
                Ok(start(DeviceRequest::Cpu)?)
            }
        },
        DeviceRequest::Auto => {
            if let Some(driver) = library::driver() {
                let gpu = driver.gpus.first().map_or("a GPU", |gpu| gpu.name.as_str());
                say(&format!(
                    "warning: `--device auto` takes the CPU although there is {gpu}: this ONNX Runtime has no CUDA; \
                     `evaluation setup --gpu` fetches one that has"
                ));
            }
            Ok(start(DeviceRequest::Cpu)?)
        }
    }
}

type Start<'a> = &'a dyn Fn(DeviceRequest) -> Result<Box<dyn Engine>, EngineError>;

/// Loads the libraries of CUDA from wherever they are, then starts; a failure says which are missing.
pub(crate) fn start_cuda(number: u32, library: &Library, start: Start<'_>) -> Result<Box<dyn Engine>, Failure> {
    let device = DeviceRequest::Cuda(number);
    if !library.has_cuda() {
        return Err(Failure::new(
            exit::INFRASTRUCTURE,
            format!(
                "device `{device}` is not available: the library `{}` is built without CUDA; `evaluation setup --gpu` \
                 fetches one that has it",
                library.path.display()
            ),
        ));
    }
    let needed = library::cuda_libraries(library);
    let found: Vec<PathBuf> = needed.iter().filter_map(|library| library.path.clone()).collect();
    let unloadable = engine::preload(&found);
    start(device).map_err(|error| {
        let missing: Vec<&str> = needed
            .iter()
            .filter(|library| library.path.is_none())
            .map(|library| library.name)
            .collect();
        let mut failure = Failure::from(error).to_string();
        if !missing.is_empty() {
            failure = format!("{failure}; not found: `{}`", missing.join("`, `"));
        }
        let mut absent = needed.iter().filter(|library| library.path.is_none());
        if let Some((other, library)) = absent.find_map(|library| Some((library.other_versions.first()?, library))) {
            failure = format!(
                "{failure}; `{}` is of another version than `{}`, which is needed",
                other.display(),
                library.name
            );
        }
        if let Some(problem) = unloadable.first() {
            failure = format!("{failure}; not loadable: {problem}");
        }
        if library::driver().is_none() {
            failure.push_str("; no NVIDIA driver is there");
        }
        let remedy = if missing.is_empty() && unloadable.is_empty() {
            "`evaluation doctor --device cuda` tells more"
        } else {
            "`evaluation doctor --device cuda` tells more, `evaluation setup --gpu` fetches what is missing"
        };
        Failure::new(exit::INFRASTRUCTURE, format!("{failure}; {remedy}"))
    })
}
