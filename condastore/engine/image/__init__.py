"""Container images: layers made directly from the packages of the store."""
