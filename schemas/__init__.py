"""What programs must agree on: records, topics, settings, ids, the declaration of the data set, security rules."""
