"""Exploratory data analysis of a labelled history."""
