"""Using a tuned model."""
