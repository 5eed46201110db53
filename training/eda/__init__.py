"""Exploratory data analysis (EDA) of a labelled history: fraud rates, associations and the HTML report."""
