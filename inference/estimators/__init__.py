"""One gradient estimator a file, and whether it is unbiased for a site. File names are the words that a plan prints."""
