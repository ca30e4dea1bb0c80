"""What a circuit is worth and how circuits differ, each number with its noise floor. Nothing is trained here."""
