"""Front of the model: estimates and explanations."""
