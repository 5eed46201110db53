"""Profiles: what is remembered of cards, merchants and devices, and the features that follow. Pure folds."""
