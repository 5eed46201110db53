"""Rules and lists on their topics: read, changed by people, applied by workers."""
