"""A table of cases in, predictions out."""
