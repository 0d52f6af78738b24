"""Reports and pages as bytes: each renderer is a function of a value, and none of them decides anything."""
