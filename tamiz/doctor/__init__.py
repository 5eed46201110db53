"""`tamiz doctor`: facts are gathered from the cluster, the registry and this machine; pure checks judge them."""
