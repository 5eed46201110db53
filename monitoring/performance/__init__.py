"""Performance of the model on labels: join of labels and decisions, rolling metrics, shadow comparison."""
