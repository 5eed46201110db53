"""Drift: baseline, detection, evidence, few-card bursts and reports."""
