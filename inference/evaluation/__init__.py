"""Is the answer right: beside the exact posterior. The public calls stand here, above everything they use."""
