"""The kernel: what two programs must agree on bit for bit."""
