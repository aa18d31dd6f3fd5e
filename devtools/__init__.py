"""Tools for developing condastore; nothing here is installed with the product."""
