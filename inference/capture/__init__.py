"""A step recorded as a graph, replayed, and compiled. This room knows no pair and no ELBO."""
