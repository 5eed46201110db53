"""One way each of doing what a Tamiz worker does, as whoever uses that library would write it."""
