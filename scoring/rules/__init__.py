"""Rules and lists: the expressions' language, lists, and precedence over the model. Pure."""
