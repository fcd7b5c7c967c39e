"""How data arises: one Pyro model a file, with its formulas, its exact posterior where one exists, and data."""
