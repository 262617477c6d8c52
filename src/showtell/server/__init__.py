"""The web app: an HTTP API over a captioner, and a page that uses it."""
