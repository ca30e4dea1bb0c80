"""What can be masked, and where a component lies in memory."""
