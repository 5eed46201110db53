"""Evaluation: metrics with confidence intervals, the skill gate, the backtest, and comparison of versions."""
