"""Commands that run a service until SIGTERM or Ctrl-C."""
