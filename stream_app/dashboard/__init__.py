"""The dashboard: a separate process that reads topics, folds them into a bounded state and serves it as a web page."""
