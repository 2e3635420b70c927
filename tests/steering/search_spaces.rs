//! The search spaces that come with the program.

use std::fs;

use protocol::search_space::SpaceDocument;
use serde_json::json;
use steering::ask::{ask, spaces};
use steering::space::Space;

use crate::support::{history, repository, request, stderr, steer};

/// All methods of search spaces, and the types and bounds of the two foreign formats.
const METHODS: [&str; 17] = [
    "categorical",
    "uniform",
    "uniformint",
    "quniform",
    "loguniform",
    "loguniformint",
    "qloguniform",
    "normal",
    "qnormal",
    "lognormal",
    "qlognormal",
    "fixed",
    "Choice",
    "TransitionChoice",
    "Scalar",
    "Log",
    "levels",
];

#[test]
fn every_example_of_the_page_is_valid_and_every_method_has_one() {
    let page = fs::read_to_string(repository().join("search_spaces/README.md")).unwrap();
    let examples: Vec<&str> = (page.split("```json\n").skip(1))
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    let all = examples.concat();
    for method in METHODS {
        assert!(all.contains(&format!("\"{method}\"")), "no example has `{method}`");
    }
    let directory = tempfile::TempDir::new().unwrap();
    for example in examples {
        fs::write(directory.path().join("space.json"), example).unwrap();
        for line in ["validate -s space.json", "ask -n 3 -s space.json"] {
            let done = steer(directory.path(), line);
            assert!(done.status.success(), "{line}: {example}\n{}", stderr(&done));
        }
    }
}

#[test]
fn every_search_space_that_comes_with_the_program_can_be_searched() {
    let mut names = Vec::new();
    for entry in fs::read_dir(repository().join("search_spaces")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let document = SpaceDocument::read(&path).unwrap_or_else(|error| panic!("{error}"));
        let encoded = spaces(&document).unwrap_or_else(|problems| panic!("{}: {problems:?}", path.display()));
        let points = ask(&document, &history(&json!([])), &request("tpe", 25)).unwrap();
        // A small space is exhausted before.
        let wanted = |space: &Space| space.size().map_or(25, |size| size.min(25) as usize);
        let expected: usize = encoded.iter().map(|(_, space)| wanted(space)).sum();
        assert_eq!(points.len(), expected, "{}", path.display());
        for point in points {
            let (_, space) = encoded.iter().find(|(segment, _)| *segment == point.segment()).unwrap();
            assert!(
                space.problems(point.point()).is_empty(),
                "{}: {point:?}",
                path.display()
            );
        }
        names.push(path.file_name().unwrap().to_owned());
    }
    for known in [
        "aerosol_activation.json",
        "climsim_mlp.json",
        "five_parameters.json",
        "nersc_cgcnn.json",
        "nersc_mnist.json",
        "raise_cifar10.json",
        "runai_quickstart.json",
    ] {
        assert!(names.iter().any(|name| name == known), "{known} is missing");
    }
}
