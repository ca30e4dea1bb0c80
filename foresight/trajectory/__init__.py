"""What was seen over steps."""
