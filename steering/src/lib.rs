//! Ask-and-tell hyperparameter search as a pure function.
//!
//! The next points are a function of seed, options, search space and history; nothing is remembered between two calls. Running
//! the same call again gives the same bytes, in another process and on another machine, and the order of the history does not
//! matter. Read in this order:
//!
//! * [`space`]: what a search-space document becomes for a sampler;
//! * [`history`]: points and outcomes, in an order of their own;
//! * [`samplers`]: the ways of choosing the next points, and their registry;
//! * [`ask`](mod@ask): the whole of one call, for one search or for all segments of a task;
//! * [`rng`]: random numbers without state;
//! * [`cli`]: the command line, the only place with files and environment variables.

pub mod ask;
pub mod cli;
pub mod history;
mod numerics;
pub mod rng;
pub mod samplers;
pub mod space;
