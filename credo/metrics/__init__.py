"""Scores of predictions. Every function takes predictions and the truth, and returns numbers or a table.

classes.py: of predicted class probabilities: classification, uncertainty, auroc, reliability.
draws.py: of predictive draws of numbers: regression, coverage, pit.
"""

from credo.metrics.classes import auroc, classification, reliability, uncertainty
from credo.metrics.draws import coverage, pit, regression

__all__ = ["auroc", "classification", "coverage", "pit", "regression", "reliability", "uncertainty"]
