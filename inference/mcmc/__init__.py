"""Draws by NUTS to compare fits with: requirements, chains, diagnostics."""
