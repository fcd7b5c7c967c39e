"""What can be asked of any approximation: summaries, predictions, likelihoods."""
