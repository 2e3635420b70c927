//! Reverse-mode differentiation: gradients of a graph as further nodes of the graph.
