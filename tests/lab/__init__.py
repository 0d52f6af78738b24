"""Real surroundings for the tests: fresh Debian servers, a container, the kernel's own judges."""
