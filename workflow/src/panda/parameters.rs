//! The parameters of a hyperparameter optimisation as PanDA's server takes them, the same as those of its client `phpo`.

use protocol::task_options::TaskOptions;
use serde_json::{Map, Value, json};

use super::command;

/// The program that PanDA starts around an evaluation.
const WRAPPER: &str = "http://pandaserver.cern.ch:25080/trf/user/runHPO-00-00-01";
/// The client whose parameters these are.
const PROCESSING: &str = "panda-client-2.2.0-jedi-hpo";
/// Runs in the container of an evaluation: waits for its work, does it, and says so.
const CONTAINER_COMMAND: &str = "while [ ! -f __payload_in_sync_file__ ]; do sleep 5; done; \
    echo \"=== cat exec script ===\"; cat __run_main_exec.sh; echo; echo \"=== exec script ===\"; \
    /bin/sh __run_main_exec.sh; REAL_MAIN_RET_CODE=$?; touch __payload_out_sync_file__; exit $REAL_MAIN_RET_CODE ";

/// What is read from files and the environment.
#[derive(Debug, Clone)]
pub(crate) struct Inputs {
    /// The search space, if a file has it.
    pub(crate) space: Option<Value>,
    /// The list of segments, if a file has it.
    pub(crate) segments: Option<Vec<Value>>,
    /// Name of the archive of the working directory on the server.
    pub(crate) archive: String,
    /// The command line.
    pub(crate) command_line: String,
    /// Address of the server that keeps the files of the task.
    pub(crate) cache: String,
}

/// A name for the archive of the working directory, which no other has.
pub(crate) fn archive_name() -> String {
    use sha2::{Digest, Sha256};
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let seed = format!("{} {}", std::process::id(), now.as_nanos());
    let digest = Sha256::digest(seed.as_bytes());
    let number = digest
        .iter()
        .take(16)
        .fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
    let digits = format!("{number:032x}");
    let groups = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| &digits[range]);
    format!("jobO.{}.tar", groups.join("-"))
}

/// The parameters, or the option that is missing.
pub(crate) fn task_parameters(options: &TaskOptions, inputs: Inputs) -> Result<Map<String, Value>, String> {
    let required = [
        ("outDS", &options.out_ds),
        ("evaluationContainer", &options.evaluation_container),
        ("evaluationExec", &options.evaluation_exec),
        ("steeringExec", &options.steering_exec),
    ];
    if let Some((name, _)) = required.iter().find(|(_, value)| value.is_none()) {
        return Err(format!("`{name}` is missing, which a task of PanDA needs"));
    }
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let mut output = text(&options.out_ds);
    if !output.ends_with('/') {
        output.push('/');
    }
    let segments = inputs.segments.as_ref().map_or(1, Vec::len) as u64;
    let points = u64::from(options.max_points.unwrap_or(10));
    let jobs = options.max_evaluation_jobs.map_or(2 * points, u64::from);
    let log = format!("{}.log/", output.trim_end_matches('/'));

    let mut parameters = Map::new();
    let mut set = |key: &str, value: Value| parameters.insert(key.to_owned(), value);
    set("noInput", true.into());
    set("nEventsPerJob", 1.into());
    set("nEvents", options.n_parallel_evaluation.unwrap_or(1).into());
    set("maxNumJobs", (jobs * segments).into());
    set("totNumJobs", (points * segments).into());
    set("taskName", output.clone().into());
    set("vo", "atlas".into());
    set("architecture", text(&options.architecture).into());
    set("hpoWorkflow", true.into());
    set("transUses", "".into());
    set("transHome", "".into());
    set("transPath", WRAPPER.into());
    set("processingType", PROCESSING.into());
    set("prodSourceLabel", "user".into());
    set("useLocalIO", 1.into());
    set("cliParams", inputs.command_line.clone().into());
    set("skipScout", true.into());
    if options.no_email == Some(true) {
        set("noEmail", true.into());
    }
    if let Some(group) = &options.working_group {
        set("workingGroup", group.clone().into());
    }
    set("coreCount", 1.into());
    match &options.site {
        Some(sites) if sites.contains(',') => {
            set("includedSite", distinct(sites).into());
        }
        Some(site) => {
            set("site", site.clone().into());
        }
        None => {}
    }
    set("container_name", text(&options.evaluation_container).into());
    set("multiStepExec", steps(options));
    set(
        "log",
        json!({
            "dataset": log,
            "container": log,
            "type": "template",
            "param_type": "log",
            "value": format!("{}.$JEDITASKID.${{SN}}.log.tgz", log.trim_end_matches('/')),
        }),
    );
    set(
        "hpoRequestData",
        request(options, inputs.space.clone(), segments, points),
    );
    if inputs.segments.is_some() {
        set("segmentedWork", true.into());
    }
    set(
        "jobParameters",
        job_parameters(options, &inputs.archive, &inputs.cache, &output).into(),
    );
    if let Some(mut list) = inputs.segments {
        for (number, segment) in list.iter_mut().enumerate() {
            segment["id"] = number.into();
        }
        if let Some(space) = inputs.space.filter(Value::is_object) {
            let spaces = (0..list.len()).map(|number| json!({"model_id": number, "search_space": space}));
            parameters["hpoRequestData"]["opt_space"] = spaces.collect();
        }
        parameters.insert("segmentSpecs".to_owned(), list.into());
    }
    Ok(parameters)
}

/// The items of a comma list, each of them once.
fn distinct(list: &str) -> Vec<String> {
    let mut items: Vec<String> = Vec::new();
    for item in list.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        if !items.iter().any(|known| known == item) {
            items.push(item.to_owned());
        }
    }
    items
}

/// How a job runs: before, beside and after the container of the evaluation.
fn steps(options: &TaskOptions) -> Value {
    let step = |name: &str| json!({"command": "${TRF}", "args": format!("--{name} ${{TRF_ARGS}}")});
    let mut steps = json!({
        "preprocess": step("preprocess"),
        "postprocess": step("postprocess"),
        "containerOptions": {"containerExec": CONTAINER_COMMAND, "containerImage": options.evaluation_container},
    });
    if options.check_point_to_save.is_some() {
        steps["coprocess"] = step("coprocess");
    }
    if let Some(arguments) = &options.alrb_args {
        steps["containerOptions"]["execArgs"] = arguments.clone().into();
    }
    steps
}

/// What iDDS is asked for.
fn request(options: &TaskOptions, space: Option<Value>, segments: u64, points: u64) -> Value {
    let mut request = json!({
        "sandbox": options.steering_container,
        "executable": "docker",
        "arguments": options.steering_exec,
        "output_json": "output.json",
        "max_points": points * segments,
        "num_points_per_generation": options.n_points_per_iteration.unwrap_or(2),
    });
    if let Some(least) = options.min_unevaluated_points {
        request["min_unevaluated_points"] = least.into();
    }
    if let Some(space) = space {
        request["opt_space"] = space;
    }
    request
}

/// The command line of the wrapper, in pieces that the server joins.
fn job_parameters(options: &TaskOptions, archive: &str, server: &str, output: &str) -> Vec<Value> {
    let constant = |value: String| json!({"type": "constant", "value": value});
    let or = |value: &Option<String>, default: &str| value.clone().unwrap_or_else(|| default.to_owned());
    let mut parts = vec![
        constant(format!(
            "-o {} -j \"\" --inSampleFile {}",
            or(&options.evaluation_output, "output.json"),
            or(&options.evaluation_input, "input.json")
        )),
        constant(format!("-a {archive} --sourceURL {server}")),
        json!({"type": "constant", "value": "-p \"", "padding": false}),
    ];
    parts.extend(command::parts(options.evaluation_exec.as_deref().unwrap_or_default()));
    parts.push(constant("\"".to_owned()));
    if let Some(list) = &options.check_point_to_save {
        parts.push(constant(format!("--checkPointToSave {list}")));
        if let Some(minutes) = options.check_point_interval {
            parts.push(constant(format!("--checkPointInterval {minutes}")));
        }
    }
    if let Some(name) = &options.check_point_to_load {
        parts.push(constant(format!("--checkPointToLoad {name}")));
    }
    if let Some(data) = &options.training_ds {
        let list = or(&options.evaluation_training_data, "input_ds.json");
        parts.push(constant(format!("--writeInputToTxt IN_DATA:{list}")));
        parts.push(json!({
            "type": "template",
            "param_type": "input",
            "value": "-i \"${IN_DATA/T}\"",
            "dataset": data,
            "attributes": "nosplit,repeat",
        }));
        parts.push(constant("--inMap \"{'IN_DATA': ${IN_DATA/T}}\"".to_owned()));
    }
    if let Some(file) = &options.evaluation_meta {
        parts.push(constant(format!("--outMetaFile={file}")));
    }
    let is_segmented = options.segment_spec_file.is_some();
    if is_segmented {
        parts.push(constant("--segmentID=${SEGMENT_ID}".to_owned()));
    }
    if let Some(file) = &options.evaluation_metrics {
        let name = "$JEDITASKID.metrics.${SN}.tgz";
        parts.push(json!({
            "type": "template",
            "param_type": "output",
            "value": if is_segmented { format!("${{MIDDLENAME}}.{name}") } else { name.to_owned() },
            "dataset": output,
            "hidden": true,
            "allowNoOutput": true,
        }));
        parts.push(constant(format!("--outMetricsFile=${{OUTPUT0}}^{file}")));
    }
    if let Some(count) = options.max_points_per_evaluation_job.filter(|count| *count > 0) {
        parts.push(constant(format!("--maxLoopCount={count}")));
    }
    parts
}
