"""Commands on rules and lists."""
