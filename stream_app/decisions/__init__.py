"""From consumed records to decisions and dead letters."""
