"""What was seen over the steps of a run: scores of components, and what forecasts of them were worth."""
