"""What the models need of each candidate's device, as columns."""
