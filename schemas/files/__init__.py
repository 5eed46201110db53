"""Files on disk: private, atomic, and the file of rejected rows."""
