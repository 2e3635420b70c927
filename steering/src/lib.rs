//! Ask-and-tell hyperparameter search as a pure function.
//!
//! The next points are a function of seed, options, search space and history; nothing is remembered between two calls. Running
//! the same call again gives the same bytes, in another process and on another machine, and the order of the history does not
//! matter. Read in this order:
//!
//! * [`space`]: what a search-space document becomes for a sampler;
//! * [`history`]: points and outcomes, in an order of their own;
//! * [`samplers`]: the ways of choosing the next points, and their registry;
//! * [`schedulers`]: the ways of deciding how far each point is trained, and their registry;
//! * [`registry`]: what knows samplers and schedulers by name, and their settings;
//! * [`ask`](mod@ask): the whole of one call, for one search or for all segments of a task;
//! * [`objectives`]: several losses at once, and the front of those that no other beats;
//! * [`explain`](mod@explain): why a point was proposed;
//! * [`importance`](mod@importance): which dimensions matter;
//! * [`two_step`]: how far part of the data can be trusted;
//! * [`rng`]: random numbers without state;
//! * [`cli`]: the command line, the only place with files and environment variables.
//!
//! ```
//! use protocol::search_space::SpaceDocument;
//! use protocol::steering::SteeringInput;
//! use serde_json::json;
//! use steering::ask::{Request, ask};
//!
//! let space = json!({"rate": {"method": "loguniform", "dimension": {"low": 1e-4, "high": 0.1}}});
//! let space = SpaceDocument::from_value(&space).expect("the space is well formed");
//! let history = json!({"points": [[{"rate": 0.01}, 0.3], [{"rate": 0.02}, null]]});
//! let history = SteeringInput::from_value(history, None).expect("the history is well formed");
//!
//! let points = ask(&space, &history, &Request::new(3, 7))?;
//! assert_eq!(points.len(), 3);
//! assert_eq!(points, ask(&space, &history, &Request::new(3, 7))?);
//! # Ok::<(), steering::ask::AskError>(())
//! ```

pub mod ask;
pub mod cli;
pub mod explain;
pub mod history;
pub mod importance;
mod numerics;
pub mod objectives;
pub mod registry;
pub mod rng;
pub mod samplers;
pub mod schedulers;
pub mod space;
pub mod stopping;
pub mod two_step;
