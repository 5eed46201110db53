"""Figures, and the PDF report of a model version."""
