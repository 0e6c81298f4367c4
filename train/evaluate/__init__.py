"""What samples are worth."""
