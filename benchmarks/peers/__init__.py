"""Peers: the work of a Tamiz worker, written with other libraries in their usual style."""
