"""A user's program run so that nothing leaks: sites, state, generators, parameters, arguments, vmap, probes."""
