"""Models with known answers, shared by several tests."""
