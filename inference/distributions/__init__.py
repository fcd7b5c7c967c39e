"""Functions of one or two distributions. This room knows no trace and no model."""
