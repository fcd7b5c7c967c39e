"""The engine: plans, objectives, the one runner, and what can be asked of a fit. It knows no model by name."""
