"""The server, and the page in the browser."""
