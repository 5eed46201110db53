"""The live page: a process of its own that reads topics, folds them into a small state and shows it."""
