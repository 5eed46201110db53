"""From topic to decision: the only code that speaks Faust."""
