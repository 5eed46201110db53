"""The notifier, its channels and retries."""
