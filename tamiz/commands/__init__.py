"""The sub-commands of `tamiz`: one module each, with a function `register(app)`."""
