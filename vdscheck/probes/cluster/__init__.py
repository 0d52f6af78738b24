"""The Kubernetes cluster: what its API server says, read page by page."""
