"""Baseline, detection, evidence and reports of drift."""
