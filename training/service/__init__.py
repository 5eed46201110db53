"""Answers retraining requests, each training in a child process."""
