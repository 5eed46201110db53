"""Figures and reports for people: model report (PDF), drift report, backtest figures."""
