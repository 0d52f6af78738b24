"""What is examined, and the only way to it: a host, a tree below a root, a cluster."""
