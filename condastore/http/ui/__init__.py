"""The web interface: pages for people over the same services as the API, with the same rights."""
