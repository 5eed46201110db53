"""Identity of users, hosts and networks, hashed tokens, and escaping of untrusted text."""
