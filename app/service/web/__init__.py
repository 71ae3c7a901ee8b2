"""Ways in: web pages and API with their log-in, and the local socket."""
