"""Labels joined to decisions, and rolling metrics of the model."""
