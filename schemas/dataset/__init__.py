"""The declaration of a data set, and the declarations that ship with Tamiz."""
