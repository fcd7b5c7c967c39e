"""Mistakes found before the first step, each with its remedy."""
