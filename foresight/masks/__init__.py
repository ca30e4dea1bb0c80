"""What a mask and a schedule are, and what fits the budget."""
