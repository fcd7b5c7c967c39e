"""What the world is: one Pyro model a file, with the maths, its exact posterior where one exists, and data."""
