//! `evaluation doctor` and `evaluation setup`: what there is to train with, and how to get what is missing.

use std::fmt::Write as _;
use std::path::PathBuf;

use protocol::exit;
use serde::Serialize;

use super::arguments::{EngineArguments, LibraryOptions, SetupOptions};
use super::failure::Failure;
use super::{print, say, start};
use crate::dataset;
use crate::engine::library::cuda::{CudaLibrary, Driver};
use crate::engine::library::{self, OLDEST_VERSION};
use crate::engine::{self, DeviceRequest, EngineOptions, EngineRequest, Library, LibraryRequest};

/// Everything that matters for training on this machine.
#[derive(Debug, Serialize)]
struct Report {
    program: &'static str,
    onnxruntime: Option<Runtime>,
    /// What trains where there is no ONNX Runtime.
    embedded: Option<String>,
    /// What is needed for CUDA, where the library has it or a GPU is there.
    cuda_libraries: Vec<CudaLibrary>,
    driver: Option<Driver>,
    /// `ok`, or why not.
    cpu: String,
    cuda: String,
    /// Processors that this process may use.
    threads: usize,
    memory_bytes: Option<u64>,
    cache: Option<PathBuf>,
    cache_bytes: u64,
    /// What is wrong, each with a remedy.
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Runtime {
    path: PathBuf,
    version: Option<String>,
    found: String,
    providers: Vec<String>,
}

/// Looks at everything, prints it, and fails where the device that was asked for does not work.
pub(crate) fn doctor(options: &LibraryOptions) -> Result<(), Failure> {
    let report = examine(&options.engine);
    if options.json {
        let text = serde_json::to_string_pretty(&report).unwrap_or_default();
        print(&format!("{text}\n"));
    } else {
        print(&report.text());
    }
    let works = match options.engine.device {
        DeviceRequest::Auto | DeviceRequest::Cpu if options.engine.engine == EngineRequest::Rten => {
            report.embedded.is_some()
        }
        DeviceRequest::Cuda(_) => report.cuda == "ok",
        DeviceRequest::Auto | DeviceRequest::Cpu => report.cpu == "ok",
    };
    if works {
        return Ok(());
    }
    Err(Failure::new(
        exit::INFRASTRUCTURE,
        report
            .problems
            .first()
            .map_or("the device does not work", String::as_str),
    ))
}

fn examine(arguments: &EngineArguments) -> Report {
    let driver = library::driver();
    let number = match arguments.device {
        DeviceRequest::Cuda(number) => number,
        DeviceRequest::Auto | DeviceRequest::Cpu => 0,
    };
    let wants_cuda = matches!(arguments.device, DeviceRequest::Cuda(_));
    let request = LibraryRequest {
        path: arguments.onnxruntime.clone(),
        offline: true,
        cache: None,
        prefer_cuda: wants_cuda || driver.is_some(),
    };
    let cache = library::cache_folder();
    let mut report = Report {
        program: concat!("evaluation ", env!("CARGO_PKG_VERSION")),
        onnxruntime: None,
        embedded: engine::embedded(None).map(|engine| engine.version()),
        cuda_libraries: Vec::new(),
        cpu: String::new(),
        cuda: String::new(),
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        memory_bytes: dataset::available_memory(),
        cache_bytes: cache.as_deref().map_or(0, size_of),
        cache,
        driver,
        problems: Vec::new(),
    };
    match library::locate(&request) {
        Ok(library) => report.try_library(&library, number, wants_cuda),
        Err(error) => {
            report.cpu = error.to_string();
            report.cuda.clone_from(&report.cpu);
            report.problems.push(format!(
                "{error}; `evaluation setup` fetches one, and so does the first training where there is a network"
            ));
        }
    }
    report
}

impl Report {
    fn try_library(&mut self, library: &Library, number: u32, wants_cuda: bool) {
        self.onnxruntime = Some(Runtime {
            path: library.path.clone(),
            version: library.version.clone(),
            found: library.to_string(),
            providers: library.providers(),
        });
        let start_on = |device| {
            engine::start(
                library,
                &EngineOptions {
                    device,
                    threads: Some(1),
                    cuda_graphs: false,
                },
            )
        };
        self.cpu = match start_on(DeviceRequest::Cpu) {
            Ok(_) => "ok".to_owned(),
            Err(error) => {
                let (major, minor) = OLDEST_VERSION;
                self.problems.push(format!(
                    "{error}; ONNX Runtime {major}.{minor} or later for this processor is needed"
                ));
                error.to_string()
            }
        };
        if library.has_cuda() || self.driver.is_some() || wants_cuda {
            self.cuda_libraries = library::cuda_libraries(library);
        }
        self.cuda = if self.cpu == "ok" {
            match start::start_cuda(number, library, &start_on) {
                Ok(_) => "ok".to_owned(),
                Err(failure) => failure.to_string(),
            }
        } else {
            self.cpu.clone()
        };
        if self.cuda != "ok" && (self.driver.is_some() || wants_cuda) {
            self.problems.push(self.cuda.clone());
            for library in &self.cuda_libraries {
                if let (None, Some(other)) = (&library.path, library.other_versions.first()) {
                    self.problems.push(format!(
                        "`{}` is of another version than `{}`, which is needed: install the Python package `{}`, or run \\
                         `evaluation setup --gpu`",
                        other.display(),
                        library.name,
                        library.package
                    ));
                }
            }
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(text, "{name:14}{value}");
        };
        line("program", self.program);
        match &self.onnxruntime {
            Some(runtime) => {
                line("ONNX Runtime", &runtime.found);
                line("providers", &runtime.providers.join(", "));
            }
            None => line("ONNX Runtime", "none"),
        }
        line("embedded", self.embedded.as_deref().unwrap_or("none"));
        line("CPU", &self.cpu);
        line("CUDA", &self.cuda);
        match &self.driver {
            None => line("GPU driver", "none"),
            Some(driver) => {
                line("GPU driver", driver.version.as_deref().unwrap_or("of unknown version"));
                for gpu in &driver.gpus {
                    let memory = gpu.memory_mib.map_or(String::new(), |memory| format!(", {memory} MiB"));
                    line(&format!("  cuda:{}", gpu.index), &format!("{}{memory}", gpu.name));
                }
            }
        }
        for library in &self.cuda_libraries {
            let place = library.path.as_ref().map_or_else(
                || format!("not found (Python package `{}`)", library.package),
                |path| path.display().to_string(),
            );
            line(&format!("  {}", library.name), &format!("  {place}"));
        }
        line("threads", &self.threads.to_string());
        let memory = self.memory_bytes.map(dataset::readable_size);
        line(
            "memory",
            &memory.map_or("unknown".to_owned(), |memory| format!("{memory} available")),
        );
        let cache = self.cache.as_ref().map_or("none".to_owned(), |cache| {
            format!("{}, {}", cache.display(), dataset::readable_size(self.cache_bytes))
        });
        line("cache", &cache);
        for problem in &self.problems {
            let _ = writeln!(text, "problem: {problem}");
        }
        text
    }
}

/// Bytes of all files below a folder; what cannot be read counts nothing.
fn size_of(folder: &std::path::Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => size_of(&entry.path()),
            Ok(kind) if kind.is_file() => entry.metadata().map_or(0, |metadata| metadata.len()),
            _ => 0,
        })
        .sum()
}

/// Fetches what is missing in the cache.
pub(crate) fn setup(options: &SetupOptions) -> Result<(), Failure> {
    let library = library::setup(options.gpu, options.cache.as_ref(), &mut |line| say(line))?;
    print(&format!("{library}\n"));
    Ok(())
}
