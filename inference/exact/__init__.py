"""Closed-form posteriors, found and checked."""
