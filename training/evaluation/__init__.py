"""Metrics with intervals, the skill gate, the backtest, and comparison of versions."""
