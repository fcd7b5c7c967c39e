"""Models in the style of Pyro's tutorials, small enough for a test."""
