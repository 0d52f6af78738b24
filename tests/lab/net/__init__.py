"""A network on one machine: routers, places and the delays between them."""
