"""The drift monitor service: reads panes, publishes reports, alerts and retraining requests."""
