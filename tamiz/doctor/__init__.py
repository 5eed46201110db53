"""`tamiz doctor`: collects facts of the cluster, the registry and this machine; pure functions check them."""
